"""Specimens for the independent SEM: four kinds of synthetic surface, each with detail from 2 px to 200 px.

A specimen is a square float32 array, shape (FIELD_PX, FIELD_PX), values 0..1 (secondary electron yield). It
is larger than the 480 x 640 view so that a wide blur disc at the border of the view still sees real surface.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

FloatImage = npt.NDArray[np.float32]

FIELD_PX: Final = 1024
_GROUND: Final = 0.42


def fractal(rng: np.random.Generator, exponent: float) -> FloatImage:
    """Return zero-mean, unit-variance noise whose amplitude spectrum falls as 1/f**exponent (periodic)."""
    fy = np.fft.fftfreq(FIELD_PX)[:, None]
    fx = np.fft.rfftfreq(FIELD_PX)[None, :]
    radius = np.hypot(fy, fx)
    radius[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((FIELD_PX, FIELD_PX))) / radius**exponent
    spectrum[0, 0] = 0.0
    field = np.fft.irfft2(spectrum, s=(FIELD_PX, FIELD_PX))
    return np.asarray(field / field.std(), dtype=np.float32)


def _band(rng: np.random.Generator, wavelength_px: float) -> FloatImage:
    """Return unit-variance noise of one dominant wavelength (difference of two Gaussians)."""
    white = rng.standard_normal((FIELD_PX, FIELD_PX)).astype(np.float32)
    sigma = wavelength_px / 4.0
    border = cv2.BORDER_REFLECT
    band = cv2.GaussianBlur(white, (0, 0), sigma, borderType=border) - cv2.GaussianBlur(
        white, (0, 0), 1.8 * sigma, borderType=border
    )
    return np.asarray(band / band.std(), dtype=np.float32)


def pollen(rng: np.random.Generator) -> FloatImage:
    """Return spiny globes of 8..80 px radius lying over each other on a mid-grey ground."""
    surface = np.full((FIELD_PX, FIELD_PX), _GROUND, np.float32)
    spines = _band(rng, 9.0)
    grid_y, grid_x = np.mgrid[0:FIELD_PX, 0:FIELD_PX].astype(np.float32)
    for radius in np.sort(np.exp(rng.uniform(np.log(8.0), np.log(80.0), 150)))[::-1]:
        centre_x, centre_y = rng.uniform(0, FIELD_PX, 2)
        top, left = max(0, int(centre_y - radius)), max(0, int(centre_x - radius))
        window = (slice(top, int(centre_y + radius) + 2), slice(left, int(centre_x + radius) + 2))
        distance = np.hypot(grid_x[window] - centre_x, grid_y[window] - centre_y) / radius
        slope = np.clip(distance, 0.0, 1.0) ** 3
        light = 0.10 * (centre_x - grid_x[window]) / radius
        body = rng.uniform(0.35, 0.55) + 0.33 * slope + light + 0.09 * spines[window]
        surface[window] = np.where(distance <= 1.0, body, surface[window])
    return surface


def fibres(rng: np.random.Generator) -> FloatImage:
    """Return a felt of bent fibres, 2..34 px thick, bright at their rims, over a dark ground."""
    surface = np.full((FIELD_PX, FIELD_PX), _GROUND - 0.14, np.float32)
    t = np.linspace(0.0, 1.0, 60)[:, None]
    for thickness in np.exp(rng.uniform(np.log(2.0), np.log(34.0), 170)):
        start, end = rng.uniform(-200, FIELD_PX + 200, (2, 2))
        bend = (start + end) / 2 + rng.normal(0.0, 140.0, 2)
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        points = np.rint(curve * 16).astype(np.int32).reshape(-1, 1, 2)
        grey = rng.uniform(0.32, 0.52)
        for share, lift in ((1.0, 0.30), (0.8, 0.16), (0.6, 0.05), (0.35, 0.0)):
            width = max(1, round(share * thickness))
            cv2.polylines(surface, [points], False, float(grey + lift), width, cv2.LINE_AA, shift=4)
    return surface


def islands(rng: np.random.Generator) -> FloatImage:
    """Return an etched film: islands of two length scales with bright walls and pits on their tops."""
    coarse, middle, fine = _band(rng, 150.0), _band(rng, 42.0), _band(rng, 12.0)
    height = (coarse + 0.55 * middle > 0.25).astype(np.float32)
    pits = ((middle + 0.8 * fine > 1.5) & (height > 0)).astype(np.float32)
    relief = height - 0.5 * pits
    wall = np.abs(relief - cv2.GaussianBlur(relief, (0, 0), 1.6))
    shade = cv2.Sobel(cv2.GaussianBlur(relief, (0, 0), 1.0), cv2.CV_32F, 1, 0, ksize=3)
    surface = _GROUND - 0.12 + 0.24 * relief + 0.65 * wall + 0.03 * shade
    return np.asarray(surface, dtype=np.float32)


def crystals(rng: np.random.Generator) -> FloatImage:
    """Return faceted grains of 4..130 px, every facet of its own grey, with bright edges."""
    surface = np.full((FIELD_PX, FIELD_PX), _GROUND, np.float32)
    for radius in np.sort(np.exp(rng.uniform(np.log(4.0), np.log(130.0), 620)))[::-1]:
        centre = rng.uniform(0, FIELD_PX, 2)
        angles = np.sort(rng.uniform(0.0, 2 * np.pi, int(rng.integers(5, 9))))
        rim = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        peak = centre + rng.uniform(-0.3, 0.3, 2) * radius
        for corner, following in zip(rim, np.roll(rim, -1, axis=0), strict=True):
            facet = np.rint(np.stack([peak, corner, following]) * 16).astype(np.int32)
            cv2.fillConvexPoly(surface, facet, float(rng.uniform(0.22, 0.66)), cv2.LINE_AA, shift=4)
        outline = np.rint(rim * 16).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(surface, [outline], True, 0.82, 1, cv2.LINE_AA, shift=4)
    return surface


SAMPLES: Final[dict[str, Callable[[np.random.Generator], FloatImage]]] = {
    "pollen": pollen,
    "fibres": fibres,
    "islands": islands,
    "crystals": crystals,
}


def make_sample(name: str, rng: np.random.Generator) -> FloatImage:
    """Return specimen `name` with fine roughness over it, mean 0.45 and standard deviation 0.15, within 0..1.

    Raises:
        KeyError: There is no such specimen.
    """
    surface = SAMPLES[name](rng) + 0.025 * fractal(rng, 1.0) + 0.03 * _band(rng, 5.0)
    surface = 0.45 + 0.15 * (surface - surface.mean()) / surface.std()
    return np.asarray(np.clip(surface, 0.0, 1.0), dtype=np.float32)
