"""Calibration grid: bars with bright edges and machined surfaces around dark, nearly featureless hollows."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from semd.simulator.texture import Picture, fractal, scratches
from semd.simulator.tinball import BallLook, ball_radii_px, draw_ball

HollowPolicy = Literal["avoid", "allow", "force"]
_PLACES = 24


def grid_emission(
    rng: np.random.Generator, shape: tuple[int, int], pixel_size_nm: float, hollow: HollowPolicy = "avoid"
) -> Picture:
    """Emission of a grid field, float32 of `shape`, about 0..1, without noise or blur.

    Args:
        rng: source of randomness.
        shape: height and width in pixels.
        pixel_size_nm: pixel size.
        hollow: `avoid` searches for a place with a bar in the middle, `allow` takes any place, `force` centres a hollow
            (above about x3000 it fills the frame and leaves nothing to focus on).
    """
    um = 1000.0 / pixel_size_nm
    pitch_px = float(np.exp(rng.uniform(np.log(24.0), np.log(110.0)))) * um
    if hollow == "force":
        pitch_px = max(pitch_px, 70.0 * um)
    bar_px = pitch_px * rng.uniform(0.22, 0.45)
    round_holes = bool(rng.uniform() < 0.3)
    inside_px = _bar_depth(rng, shape, pitch_px, bar_px, round_holes, hollow)
    finest_px = float(np.clip(0.05 * um, 1.4, 4.5))
    detail = fractal(rng, shape, finest_px, 128.0, rng.uniform(0.1, 0.6))
    inside_px = inside_px + detail * np.float32(rng.uniform(0.3, 1.6))

    grain = fractal(rng, shape, finest_px, 48.0, rng.uniform(-0.1, 0.4))
    marks = scratches(rng, shape, rng.uniform(0.0, np.pi), max(finest_px, 1.5))
    surface = np.float32(rng.uniform(0.4, 0.65)) + np.float32(rng.uniform(0.02, 0.08)) * grain
    surface += np.float32(rng.uniform(0.0, 0.06)) * marks
    surface += np.float32(rng.uniform(0.0, 0.05)) * fractal(rng, shape, 64.0, 512.0)
    bars = np.asarray(surface, np.float32)
    _scatter_dust(rng, bars, grain, finest_px, 0.25 * bar_px)

    edge_px = max(rng.uniform(0.3, 1.2) * um, 1.6)
    bars += np.float32(rng.uniform(0.15, 0.5)) * np.exp(-np.abs(inside_px) / np.float32(edge_px))
    ground = np.float32(rng.uniform(0.04, 0.2))
    glow = np.float32(rng.uniform(0.0, 0.08)) * np.exp(np.minimum(inside_px, 0.0) / np.float32(6.0 * edge_px))
    hollows = ground + glow + np.float32(rng.uniform(0.0, 0.004)) * grain
    cover = np.clip(inside_px + 0.5, 0.0, 1.0)
    return np.asarray(hollows + cover * (bars - hollows), dtype=np.float32)


def _bar_depth(
    rng: np.random.Generator,
    shape: tuple[int, int],
    pitch_px: float,
    bar_px: float,
    round_holes: bool,
    hollow: HollowPolicy,
) -> Picture:
    """Depth inside the bars in pixels, negative in a hollow, at a place that satisfies the policy."""
    angle = rng.uniform(0.0, np.pi / 2.0)
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    y = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(shape[0] / 2.0)
    x = np.arange(shape[1], dtype=np.float32)[None, :] - np.float32(shape[1] / 2.0)
    u, v = x * cosine + y * sine, y * cosine - x * sine
    places = rng.uniform(0.0, pitch_px, (_PLACES if hollow == "avoid" else 1, 2))
    if hollow == "force":
        # The centre of a hollow lies half a pitch from the crossing of the bars along both axes.
        return _depth_at(u, v, np.array([0.5, 0.5]) * pitch_px, pitch_px, bar_px, round_holes)
    step = 16
    best, best_fit = places[0], -np.inf
    for place in places:
        depth = _depth_at(u[::step, ::step], v[::step, ::step], place, pitch_px, bar_px, round_holes)
        rows, cols = depth.shape[0] // 4, depth.shape[1] // 4
        share = float((depth[rows:-rows, cols:-cols] > 0.0).mean())
        # An operator would choose a bar with its edge near the middle.
        if -abs(share - 0.6) > best_fit:
            best, best_fit = place, -abs(share - 0.6)
        if 0.35 <= share <= 0.95:
            break
    return _depth_at(u, v, best, pitch_px, bar_px, round_holes)


def _depth_at(u: Picture, v: Picture, place: np.ndarray, pitch_px: float, bar_px: float, round_holes: bool) -> Picture:
    pitch = np.float32(pitch_px)
    du = np.abs(np.mod(u + np.float32(place[0]), pitch) - pitch / 2.0)
    dv = np.abs(np.mod(v + np.float32(place[1]), pitch) - pitch / 2.0)
    hole_px = np.float32((pitch_px - bar_px) / 2.0)
    if round_holes:
        return np.asarray(np.hypot(du, dv) - hole_px * np.float32(1.1), dtype=np.float32)
    return np.asarray(np.maximum(du, dv) - hole_px, dtype=np.float32)


def _scatter_dust(
    rng: np.random.Generator, canvas: Picture, grain: Picture, smallest_px: float, largest_px: float
) -> None:
    look = BallLook(
        body=0.0,
        limb=rng.uniform(0.1, 0.3),
        limb_floor=0.2,
        shading=rng.uniform(0.0, 0.1),
        light_rad=rng.uniform(0.0, 2.0 * np.pi),
        shadow=rng.uniform(0.1, 0.4),
        texture=0.04,
        spread=0.0,
    )
    area = rng.uniform(0.01, 0.12) * canvas.size
    top = float(np.clip(largest_px, 4.0, 30.0))
    radii = ball_radii_px(rng, max(1.0, smallest_px * 0.7), top, rng.uniform(1.6, 2.4), area, 350)
    for radius in radii:
        centre = (float(rng.uniform(0, canvas.shape[0])), float(rng.uniform(0, canvas.shape[1])))
        draw_ball(canvas, grain, centre, float(radius), look, float(rng.uniform(0.3, 0.8)))
    if rng.uniform() < 0.4:
        pits = (fractal(rng, (canvas.shape[0], canvas.shape[1]), smallest_px, 32.0) > 2.0).astype(np.float32)
        canvas -= np.float32(rng.uniform(0.05, 0.25)) * cv2.GaussianBlur(pits, (0, 0), 0.7)
