"""Assorted surfaces other than tin balls and grids, so that the scoring machine generalises over samples."""

from __future__ import annotations

import cv2
import numpy as np

from semd.simulator.packing import ROW_SPACING, hexagonal_balls
from semd.simulator.texture import Picture, cells, distance_past_edge_px, finest_grain_px, fractal, scratches

_COMPOSITE_SHARE = 0.25


def assorted_emission(rng: np.random.Generator, shape: tuple[int, int], pixel_size_nm: float) -> Picture:
    """Emission of one surface with detail at every scale, or of two that meet, float32 of `shape`, about 0..1.

    Kinds: flakes, cells, fibres, scratched patches, pores, crystallites, particles, lamellae, lattices, monolayers.
    """
    finest_px = finest_grain_px(pixel_size_nm)
    emission = _surface(rng, shape, finest_px)
    if rng.uniform() < _COMPOSITE_SHARE:
        emission = _joined(rng, emission, _surface(rng, shape, finest_px))
    return emission


def _surface(rng: np.random.Generator, shape: tuple[int, int], finest_px: float) -> Picture:
    canvas = 0.4 + np.float32(rng.uniform(0.02, 0.12)) * fractal(rng, shape, finest_px, 256.0, rng.uniform(0.0, 0.7))
    kinds = (_flakes, _cells, _fibres, _patches, _pores, _crystallites, _particles, _lamellae, _lattice, _monolayer)
    return np.asarray(kinds[int(rng.integers(0, len(kinds)))](rng, canvas, finest_px), dtype=np.float32)


def _joined(rng: np.random.Generator, one: Picture, other: Picture) -> Picture:
    """Join two surfaces along a straight or winding edge, or as islands of one on the other; the second is rescaled."""
    shape = (one.shape[0], one.shape[1])
    past_px = distance_past_edge_px(rng, shape, (0.0, 20.0, 400.0), 48.0)
    beyond = past_px > np.float32(rng.uniform(-200.0, 200.0))
    dimmed = np.float32(rng.uniform(0.3, 1.0)) * other + np.float32(rng.uniform(0.0, 0.2))
    return np.asarray(np.where(beyond, dimmed, one), dtype=np.float32)


def _flakes(rng: np.random.Generator, canvas: Picture, finest_px: float) -> Picture:
    for _ in range(int(rng.integers(60, 400))):
        size = finest_px * 1.5 * (1.0 - rng.uniform()) ** -0.7
        size = min(size, 160.0)
        centre = rng.uniform(0.0, 1.0, 2) * np.array([canvas.shape[1], canvas.shape[0]])
        corners = int(rng.integers(3, 9))
        angles = np.sort(rng.uniform(0.0, 2.0 * np.pi, corners))
        radii = size * rng.uniform(0.6, 1.2, corners)
        points = centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
        fixed = np.round(points * 16).astype(np.int32)
        level = float(rng.uniform(0.15, 0.85))
        cv2.fillPoly(canvas, [fixed], level, lineType=cv2.LINE_8, shift=4)
        if rng.uniform() < 0.5:
            cv2.polylines(canvas, [fixed], True, min(level + 0.25, 1.0), 1, cv2.LINE_8, shift=4)
    grain = fractal(rng, (canvas.shape[0], canvas.shape[1]), finest_px, 32.0, 0.2)
    return np.asarray(canvas + np.float32(rng.uniform(0.01, 0.06)) * grain, dtype=np.float32)


def _cells(rng: np.random.Generator, canvas: Picture, finest_px: float) -> Picture:
    shape = (canvas.shape[0], canvas.shape[1])
    for size in (96.0, 32.0, 10.0):
        ridge = np.abs(fractal(rng, shape, max(size / 4.0, finest_px), size, 0.8))
        width = np.float32(rng.uniform(0.04, 0.15))
        canvas += np.float32(rng.uniform(-0.3, 0.35)) * np.exp(-((ridge / width) ** 2))
    return canvas


def _fibres(rng: np.random.Generator, canvas: Picture, finest_px: float) -> Picture:
    for _ in range(int(rng.integers(30, 200))):
        start = rng.uniform(-0.1, 1.1, 2) * np.array([canvas.shape[1], canvas.shape[0]])
        heading = rng.uniform(0.0, 2.0 * np.pi) + np.cumsum(rng.normal(0.0, 0.12, 24))
        steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * rng.uniform(4.0, 30.0)
        fixed = np.round((start + np.cumsum(steps, axis=0)) * 16).astype(np.int32)
        thick = max(round(finest_px * (1.0 - rng.uniform()) ** -0.6), 1)
        thick = min(thick, 24)
        level = float(rng.uniform(0.2, 0.9))
        cv2.polylines(canvas, [fixed], False, level, thick, cv2.LINE_8, shift=4)
        cv2.polylines(canvas, [fixed], False, min(level + 0.15, 1.0), max(thick // 3, 1), cv2.LINE_8, shift=4)
    return canvas


def _patches(rng: np.random.Generator, canvas: Picture, finest_px: float) -> Picture:
    shape = (canvas.shape[0], canvas.shape[1])
    canvas += np.float32(rng.uniform(0.05, 0.15)) * scratches(rng, shape, rng.uniform(0, np.pi), finest_px)
    canvas += np.float32(rng.uniform(0.1, 0.3)) * (fractal(rng, shape, finest_px * 2, 128.0, 0.5) > rng.uniform(0, 1.5))
    return canvas


def _pores(rng: np.random.Generator, canvas: Picture, finest_px: float) -> Picture:
    """Dark holes of equal or varied size, some with a bright rim, in a smooth or grainy wall."""
    typical_px = finest_px * float(np.exp(rng.uniform(np.log(1.5), np.log(20.0))))
    spread = float(rng.uniform(0.0, 0.7))
    wall = np.float32(rng.uniform(0.0, 1.0)) * (canvas - 0.4) + np.float32(rng.uniform(0.4, 0.8))
    covered = float(rng.uniform(0.1, 0.6)) * wall.size / (np.pi * typical_px**2)
    hole, rim = float(rng.uniform(0.02, 0.25)), float(rng.uniform(0.0, 0.25))
    for _ in range(int(min(covered, 6000.0))):
        radius_px = min(typical_px * float(np.exp(spread * rng.standard_normal())), 120.0)
        centre = rng.uniform(0.0, 1.0, 2) * np.array([wall.shape[1], wall.shape[0]])
        axes = radius_px * rng.uniform(0.7, 1.3, 2)
        box = (
            (float(centre[0]), float(centre[1])),
            (2.0 * float(axes[0]), 2.0 * float(axes[1])),
            float(rng.uniform(0, 180)),
        )
        cv2.ellipse(wall, box, hole + 0.1 * float(rng.uniform()), -1, cv2.LINE_8)
        if rim > 0.08:
            cv2.ellipse(wall, box, float(wall.max()) * 0.8 + rim, 1, cv2.LINE_8)
    return wall


def _crystallites(rng: np.random.Generator, canvas: Picture, finest_px: float) -> Picture:
    """Grains with straight boundaries, each of its own grey level, with or without grooves between them."""
    grain_px = finest_px * float(np.exp(rng.uniform(np.log(3.0), np.log(40.0))))
    count = int(max(canvas.size / grain_px**2, 8.0))
    nearest = cells(rng, (canvas.shape[0], canvas.shape[1]), count)
    greys = rng.uniform(0.15, 0.15 + rng.uniform(0.1, 0.7), int(nearest.max()) + 1).astype(np.float32)
    grains = greys[nearest] + np.float32(rng.uniform(0.0, 0.6)) * (canvas - 0.4)
    if rng.uniform() < 0.5:
        edge = cv2.morphologyEx(nearest.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
        grains[edge] = np.float32(rng.choice([0.05, 0.95]))
    return np.asarray(grains, dtype=np.float32)


def _particles(rng: np.random.Generator, canvas: Picture, finest_px: float) -> Picture:
    """Powder of round grains in heaps, brighter towards their rims."""
    typical_px = finest_px * float(np.exp(rng.uniform(np.log(2.0), np.log(20.0))))
    canvas *= np.float32(rng.uniform(0.3, 1.0))
    grain = np.float32(rng.uniform(0.0, 0.08)) * fractal(rng, (canvas.shape[0], canvas.shape[1]), finest_px, 32.0, 0.2)
    heaps = rng.uniform(0.0, 1.0, (int(rng.integers(1, 6)), 2))
    count = int(min(float(rng.uniform(0.2, 1.5)) * canvas.size / (np.pi * typical_px**2), 3000.0))
    shade = float(rng.uniform(0.1, 0.5))
    for _ in range(count):
        heap = heaps[int(rng.integers(0, len(heaps)))]
        place = rng.uniform(0.0, 1.0, 2) if rng.uniform() < 0.5 else rng.normal(heap, 0.15)
        radius = float(min(typical_px * np.exp(0.3 * rng.standard_normal()), 80.0))
        x, y = place[0] * canvas.shape[1], place[1] * canvas.shape[0]
        top, left = max(int(y - radius), 0), max(int(x - radius), 0)
        rows = np.arange(top, min(int(y + radius) + 2, canvas.shape[0]), dtype=np.float32)[:, None]
        cols = np.arange(left, min(int(x + radius) + 2, canvas.shape[1]), dtype=np.float32)[None, :]
        if not rows.size or not cols.size:
            continue
        square = ((rows - y) ** 2 + (cols - x) ** 2) / np.float32(radius**2)
        part = canvas[top : top + rows.shape[0], left : left + cols.shape[1]]
        ball = np.float32(rng.uniform(0.25, 0.6)) + np.float32(shade) * square**2
        np.copyto(part, ball + grain[top : top + rows.shape[0], left : left + cols.shape[1]], where=square < 1.0)
    return canvas


def _lamellae(rng: np.random.Generator, canvas: Picture, finest_px: float) -> Picture:
    """Bent lamellae of two phases with sharp boundaries, as in eutectics and pearlite, in one or two directions."""
    shape = (canvas.shape[0], canvas.shape[1])
    period_px = finest_px * float(np.exp(rng.uniform(np.log(3.0), np.log(25.0))))
    bent_px = np.float32(period_px * rng.uniform(0.0, 1.5)) * fractal(rng, shape, 4.0 * period_px, 256.0, 0.8)
    y, x = np.indices(shape, dtype=np.float32)
    first, second = rng.uniform(0.0, np.pi, 2)
    colony = fractal(rng, shape, 64.0, 256.0, 0.8) > rng.uniform(-2.0, 2.0)
    across_px = np.where(
        colony,
        x * np.float32(np.cos(first)) + y * np.float32(np.sin(first)),
        x * np.float32(np.cos(second)) + y * np.float32(np.sin(second)),
    )
    wave = np.sin((across_px + bent_px) * np.float32(2.0 * np.pi / period_px))
    slope = np.float32(period_px / (2.0 * np.pi))
    bright = np.clip((wave - np.float32(rng.uniform(-0.6, 0.6))) * slope + 0.5, 0.0, 1.0)
    return np.asarray(canvas + np.float32(rng.uniform(-0.35, 0.45)) * bright, dtype=np.float32)


def _lattice(rng: np.random.Generator, canvas: Picture, finest_px: float) -> Picture:
    """Patterned lattice of dots, squares or bars at a regular pitch, rotated, sheared, with some elements missing."""
    pitch_px = max(finest_px * float(np.exp(rng.uniform(np.log(4.0), np.log(50.0)))), 5.0)
    turn, shear = rng.uniform(0.0, np.pi), rng.choice([0.0, 0.5, rng.uniform(-0.3, 0.3)])
    y, x = np.indices(canvas.shape, dtype=np.float32)
    along = (x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn))) / np.float32(pitch_px)
    across = (y * np.float32(np.cos(turn)) - x * np.float32(np.sin(turn))) / np.float32(
        pitch_px * rng.choice([1.0, 0.866, rng.uniform(0.6, 1.6)])
    )
    along += np.float32(shear) * np.floor(across)
    row, column = np.floor(across).astype(np.int32), np.floor(along).astype(np.int32)
    aside, above = np.abs(along - column - np.float32(0.5)), np.abs(across - row - np.float32(0.5))
    reach = np.float32(rng.uniform(0.15, 0.45))
    shapes = (np.hypot(aside, above), np.maximum(aside, above), aside)
    inside_px = (reach - shapes[int(rng.choice(3, p=(0.5, 0.25, 0.25)))]) * np.float32(pitch_px)
    # Edges are antialiased over one pixel; rims are brighter by the edge effect.
    cover = np.clip(inside_px + 0.5, 0.0, 1.0)
    chance = rng.random((256, 256), dtype=np.float32)
    missing = chance[row % 256, column % 256] < np.float32(rng.choice([0.0, 0.0, rng.uniform(0.0, 0.2)]))
    grey = np.float32(rng.uniform(0.05, 0.95)) + np.float32(rng.uniform(0.0, 0.8)) * (canvas - 0.4)
    rim = np.float32(rng.uniform(0.0, 0.3)) * np.exp(-np.abs(inside_px) / np.float32(rng.uniform(1.0, 3.0)))
    ground = np.float32(rng.uniform(0.2, 1.0)) * canvas
    return np.where(missing, ground, ground + cover * (grey - ground) + rim)


def _monolayer(rng: np.random.Generator, canvas: Picture, finest_px: float) -> Picture:
    """Monolayer of touching balls, packed in strained domains, with single balls missing and gaps."""
    pitch_px = max(finest_px * float(np.exp(rng.uniform(np.log(3.0), np.log(24.0)))), 5.0)
    shape = (canvas.shape[0], canvas.shape[1])
    y, x = np.indices(shape, dtype=np.float32)
    strain_px = np.float32(pitch_px * rng.uniform(0.0, 0.4))
    x += strain_px * fractal(rng, shape, 6.0 * pitch_px, 256.0, 0.8)
    y += strain_px * fractal(rng, shape, 6.0 * pitch_px, 256.0, 0.8)
    seeds = rng.uniform(0.0, 1.0, (int(rng.integers(1, 16)), 2)).astype(np.float32) * np.array(shape, np.float32)
    domain = np.argmin([(y - row) ** 2 + (x - column) ** 2 for row, column in seeds], axis=0)
    turns = rng.uniform(0.0, np.pi / 3.0, len(seeds)).astype(np.float32)[domain]
    along = (x * np.cos(turns) + y * np.sin(turns)) / np.float32(pitch_px)
    across = (y * np.cos(turns) - x * np.sin(turns)) / np.float32(pitch_px * ROW_SPACING)
    ball, distance = hexagonal_balls(along, across, domain)
    chance = rng.random(4096, dtype=np.float32)[ball % 4096]
    radius = np.float32(0.5) - np.float32(rng.uniform(0.0, 0.12)) * chance
    gaps = fractal(rng, shape, 3.0 * pitch_px, 128.0, 0.6) > np.float32(rng.uniform(1.2, 4.0))
    missing = (chance < np.float32(rng.uniform(0.0, 0.06))) | gaps
    inside_px = (radius - distance) * np.float32(pitch_px)
    cover = np.where(missing, np.float32(0.0), np.clip(inside_px + 0.5, 0.0, 1.0))
    depth = np.clip(distance / np.maximum(radius, 0.05), 0.0, 1.0)
    limb = np.float32(rng.uniform(0.0, 0.35)) * depth ** np.float32(rng.uniform(2.0, 8.0))
    grey = np.float32(rng.uniform(0.25, 0.6)) + limb + np.float32(rng.uniform(0.0, 0.5)) * (canvas - 0.4)
    ground = np.float32(rng.uniform(0.1, 0.6)) * canvas
    return np.asarray(ground + cover * (grey - ground), dtype=np.float32)
