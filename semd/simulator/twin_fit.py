"""Fit of a feature-level twin's scene to a virtual microscope, which measures the accuracy of the twin.

The detector's values are copied. The decay of contrast and gradient with the blur is fitted to noise-free renderings,
within the ranges of `draw_scenes`, so that the residual is an error of the twin and not of a random draw.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from semd.domain.expert_scale import lenient_blur_px, quality_slope
from semd.simulator.field import crop_margin
from semd.simulator.microscope import VirtualMicroscope
from semd.simulator.optics import ALPHA_NOMINAL_MRAD
from semd.simulator.texture import Picture
from semd.simulator.twin_scene import (
    GRADIENT_AT,
    GRADIENT_PER_SPREAD,
    GRADIENT_POWER,
    MIN_BLUR,
    SAMPLES,
    SHRINK_AT,
    SHRINK_FLOOR,
    SHRINK_POWER,
    Column,
    Scenes,
)

Range: TypeAlias = tuple[float, float]

_DEFOCUS_U = (-30.0, -16.0, -8.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_GRID = 25
# Mean absolute value of a standard normal deviate: gradient over standard deviation, in each direction.
_MEAN_ABS_DEVIATE = float(np.sqrt(2.0 / np.pi))


def fit_scene(microscope: VirtualMicroscope, count: int, rng: np.random.Generator) -> Scenes:
    """Fit the nearest scene, in focus at 0 u and without score errors, and repeat it `count` times.

    Args:
        microscope: virtual microscope, not modified; backlash and drift are ignored.
        count: number of scenes, B.
        rng: random generator of the pixel noise.
    """
    focused = _noise_free(microscope, 0.0)
    least_blur = microscope.optics.blur(
        microscope.focus_wd_mm, microscope.focus_wd_mm, microscope.field.pixel_size_nm
    ).effective_px / lenient_blur_px(microscope.magnification)
    least_blur = float(np.clip(least_blur, *MIN_BLUR))
    blur_per_u = microscope.optics.alpha_mrad(microscope.focus_wd_mm) / ALPHA_NOMINAL_MRAD
    low, high = np.percentile(focused, (2.0, 98.0))
    spread = max(float(high - low), 0.1)

    pictures = [_noise_free(microscope, each) for each in _DEFOCUS_U]
    blur = np.hypot(least_blur, blur_per_u * np.array(_DEFOCUS_U))
    kept = np.array([picture.std() for picture in pictures]) / max(float(focused.std()), 1e-6)
    shrink_at, shrink_power, shrink_floor = _fit_shrinking(blur, kept)
    structure = np.array([_gradient(picture) for picture in pictures]) / (2.0 * _MEAN_ABS_DEVIATE)
    gradient, gradient_at, gradient_power = _fit_gradient(blur, structure, spread)

    detector = microscope.detector
    values = {
        "focus_u": 0.0,
        "blur_per_u": blur_per_u,
        "least_blur": least_blur,
        "tolerated_px": lenient_blur_px(microscope.magnification),
        "quality_slope": quality_slope(microscope.magnification),
        "shrink_at": shrink_at,
        "shrink_power": shrink_power,
        "shrink_floor": shrink_floor,
        "gradient": gradient,
        "gradient_at": gradient_at,
        "gradient_power": gradient_power,
        "brightness_at": detector.brightness_optimum,
        "contrast_at": detector.contrast_optimum,
        "grey_per_brightness": detector.grey_per_brightness,
        "contrast_per_octave": detector.contrast_per_octave,
        "mid": detector.mid,
        "gain_grey": detector.gain_grey,
        "electrons": detector.electrons,
        "readout_grey": detector.readout_grey,
        "smear": detector.smear,
        "low_u": -np.inf,
        "high_u": np.inf,
    }
    emission = np.quantile(focused, (np.arange(SAMPLES) + 0.5) / SAMPLES)
    return Scenes(
        emission=np.tile(emission, (count, 1)),
        noise_shape=rng.standard_normal((count, SAMPLES)),
        **{
            column.name: np.full(count, values.get(column.name, 0.0))
            for column in fields(Scenes)
            if column.name not in ("emission", "noise_shape")
        },
    )


def _noise_free(microscope: VirtualMicroscope, defocus_u: float) -> Picture:
    """Noise-free emission of the frame at a defocus, float32 (480, 640)."""
    wd_mm = microscope.focus_wd_mm + defocus_u * microscope.wd_unit_mm
    blur = microscope.optics.blur(wd_mm, microscope.focus_wd_mm, microscope.field.pixel_size_nm)
    return np.ascontiguousarray(crop_margin(blur.apply(microscope.field.emission)))


def _gradient(picture: Picture) -> float:
    """Mean of |I(x+1) - I(x)| + |I(y+1) - I(y)|."""
    return float(np.abs(np.diff(picture, axis=0)).mean() + np.abs(np.diff(picture, axis=1)).mean())


def _fit_shrinking(blur: Column, kept: Column) -> tuple[float, float, float]:
    """Fit scale, power and floor of the contrast's decay to `kept`, contrast over relative blur, both (K,)."""
    at, power, floor = _combinations(np.geomspace(*SHRINK_AT, _GRID), SHRINK_POWER, SHRINK_FLOOR)
    curve = floor + (1.0 - floor) / (1.0 + (blur / at) ** power)
    best = int(((curve - kept) ** 2).sum(axis=1).argmin())
    return float(at[best, 0]), float(power[best, 0]), float(floor[best, 0])


def _fit_gradient(blur: Column, structure: Column, spread: float) -> tuple[float, float, float]:
    """Fit size in focus, scale and power of the gradient's decay to its root, as the feature GRD uses it."""
    at, power, share = _combinations(
        np.geomspace(*GRADIENT_AT, _GRID), GRADIENT_POWER, tuple(np.sqrt(GRADIENT_PER_SPREAD))
    )
    gradient = spread * share**2
    curve = np.sqrt(gradient / (1.0 + (blur / at) ** power))
    best = int(((curve - np.sqrt(structure)) ** 2).sum(axis=1).argmin())
    return float(gradient[best, 0]), float(at[best, 0]), float(power[best, 0])


def _combinations(first: Column, second: Range, third: Range) -> tuple[NDArray[np.float64], ...]:
    """All combinations of three grids of values, as columns (K, 1)."""
    grids = np.meshgrid(first, np.linspace(*second, _GRID), np.linspace(*third, _GRID))
    return tuple(grid.reshape(-1, 1) for grid in grids)
