"""Tin balls on carbon, a common focus standard: bright spheres of many sizes on a dark ground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semd.simulator.texture import Picture, fractal


@dataclass(frozen=True, slots=True)
class BallLook:
    """Emission of a ball's surface.

    Attributes:
        body: emission of a surface seen head-on.
        limb: added emission of tilted surfaces (secondary electron yield, about 1/cos).
        limb_floor: lower bound of the cosine in 1/cos; small means a thin, sharp rim.
        shading: half the emission difference between the detector's side and the far side.
        light_rad: direction of the detector in the picture.
        shadow: darkening of the surroundings of a ball.
        texture: strength of the surface grain.
        spread: ball-to-ball variation of the body's emission.
    """

    body: float
    limb: float
    limb_floor: float
    shading: float
    light_rad: float
    shadow: float
    texture: float
    spread: float


def draw_ball(
    canvas: Picture,
    grain: Picture,
    centre_px: tuple[float, float],
    radius_px: float,
    look: BallLook,
    body: float,
) -> None:
    """Draw one sphere with a contact shadow onto `canvas`, in place.

    Args:
        canvas: emission, float32.
        grain: texture of the same shape, mean 0, standard deviation 1.
        centre_px: row and column of the centre.
        radius_px: radius in pixels.
        look: emission of the surface.
        body: this ball's head-on emission.
    """
    cy, cx = centre_px
    reach = radius_px * 1.3 + 2.0
    top, bottom = max(int(cy - reach), 0), min(int(cy + reach) + 2, canvas.shape[0])
    left, right = max(int(cx - reach), 0), min(int(cx + reach) + 2, canvas.shape[1])
    if top >= bottom or left >= right:
        return
    y = (np.arange(top, bottom, dtype=np.float32) - np.float32(cy))[:, None] / np.float32(radius_px)
    x = (np.arange(left, right, dtype=np.float32) - np.float32(cx))[None, :] / np.float32(radius_px)
    rho_square = y * y + x * x
    outside_px = (np.sqrt(rho_square) - 1.0) * np.float32(radius_px)
    patch = canvas[top:bottom, left:right]
    if look.shadow > 0.0:
        fall = np.exp(-np.maximum(outside_px, 0.0) / np.float32(0.12 * radius_px + 0.8))
        patch *= 1.0 - np.float32(look.shadow) * fall
    cosine = np.sqrt(np.maximum(1.0 - rho_square, 0.0))
    floor = np.float32(look.limb_floor)
    rim = (1.0 / (cosine + floor) - 1.0 / (1.0 + floor)) * np.float32(look.limb / (1.0 / floor - 1.0 / (1.0 + floor)))
    light_x, light_y = (
        np.float32(look.shading * np.cos(look.light_rad)),
        np.float32(look.shading * np.sin(look.light_rad)),
    )
    emission = rim + (x * light_x + y * light_y) + np.float32(look.texture) * grain[top:bottom, left:right]
    emission += np.float32(body)
    patch += np.clip(0.5 - outside_px, 0.0, 1.0) * (emission - patch)


def ball_radii_px(
    rng: np.random.Generator,
    smallest_px: float,
    largest_px: float,
    exponent: float,
    area_px: float,
    most: int,
) -> NDArray[np.float64]:
    """Draw radii with `N(>r) ~ r ** -exponent` that cover `area_px` pixels, largest first, at most `most` of them."""
    uniform = rng.uniform(0.0, 1.0, most * 4)
    low, high = smallest_px**-exponent, largest_px**-exponent
    radii = (low - uniform * (low - high)) ** (-1.0 / exponent)
    count = int(np.searchsorted(np.cumsum(np.pi * radii**2), area_px)) + 1
    # The limit drops the smallest, which cost time and cover little.
    return np.sort(radii[:count])[::-1][:most]


def tinball_emission(rng: np.random.Generator, shape: tuple[int, int], pixel_size_nm: float) -> Picture:
    """Emission of a tin-ball field, float32 of `shape`, about 0..1, without noise or blur.

    Sizes follow a power law between 60 nm and 25 µm in radius, so that every magnification shows balls.
    """
    um = 1000.0 / pixel_size_nm
    largest_px = float(np.clip(25.0 * um, 24.0, 0.45 * shape[0]))
    smallest_px = float(np.clip(0.06 * um, 1.3, 6.0))
    look = BallLook(
        body=rng.uniform(0.38, 0.62),
        limb=rng.uniform(0.18, 0.55),
        limb_floor=rng.uniform(0.06, 0.25),
        shading=rng.uniform(0.0, 0.16),
        light_rad=rng.uniform(0.0, 2.0 * np.pi),
        shadow=rng.uniform(0.1, 0.6),
        texture=rng.uniform(0.015, 0.07),
        spread=rng.uniform(0.02, 0.1),
    )
    canvas = np.full(shape, rng.uniform(0.05, 0.28), np.float32)
    canvas += np.float32(rng.uniform(0.008, 0.04)) * fractal(
        rng, shape, max(1.5, smallest_px * 0.7), 96.0, rng.uniform(0.0, 0.5)
    )
    grain = fractal(rng, shape, max(1.5, smallest_px * 0.7), 64.0, rng.uniform(0.0, 0.5))
    cover = rng.uniform(0.5, 1.9) * shape[0] * shape[1]
    radii = ball_radii_px(rng, smallest_px, largest_px, rng.uniform(1.5, 2.2), cover, 1500)
    # Large balls mostly lie below small ones, as in poured powder; the jitter buries some of the small ones.
    order = np.argsort(-radii * np.exp(rng.normal(0.0, 0.6, radii.size)))
    centres = rng.uniform(-0.05, 1.05, (radii.size, 2)) * np.array(shape)
    bodies = look.body + look.spread * rng.standard_normal(radii.size)
    for k in order:
        draw_ball(canvas, grain, (centres[k, 0], centres[k, 1]), float(radii[k]), look, float(bodies[k]))
    return canvas
