"""The independent SEM's column and detector: knobs, blur by an annular kernel in Fourier space, gain, noise.

Optics: the probe away from focus is the shadow of an annular aperture, outer diameter
`2 * alpha * |wd - focus| / pixel`, inner diameter a quarter of that, convolved with a 0.55 px Gaussian probe.
Detector: `grey = offset(brightness) + 255 * gain(contrast) * (yield - 0.45) + noise`, clipped to 0..255.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from isem_samples import FIELD_PX, FloatImage, make_sample

GreyImage = npt.NDArray[np.uint8]

HEIGHT_PX: Final = 480
WIDTH_PX: Final = 640
FIELD_WIDTH_MM: Final = 127.0
ALPHA_RAD: Final = 3.1e-3
PROBE_SIGMA_PX: Final = 0.55
_HOLE: Final = 0.25
_MEAN_YIELD: Final = 0.45


@dataclass(frozen=True, slots=True)
class Knobs:
    """Settings of an operator: magnification (x), working distance (mm), brightness and contrast (0..100)."""

    magnification: float
    wd_mm: float
    brightness: float
    contrast: float


def pixel_mm(magnification: float) -> float:
    """Return the pixel size in mm of a 640 px wide scan."""
    return FIELD_WIDTH_MM / magnification / WIDTH_PX


def tolerable_disc_px(magnification: float) -> float:
    """Return the blur disc diameter in px an operator hardly minds, 2 * sqrt(M / 500)."""
    return 2.0 * math.sqrt(magnification / 500.0)


def disc_unit_mm(magnification: float) -> float:
    """Return the defocus in mm whose blur disc is just the tolerable one."""
    return tolerable_disc_px(magnification) * pixel_mm(magnification) / (2.0 * ALPHA_RAD)


def gain(contrast: float) -> float:
    """Return the detector gain: quadratic in the knob, 1 at mid scale."""
    return 0.25 + 3.0 * (contrast / 100.0) ** 2


def offset_grey(brightness: float) -> float:
    """Return the grey value of the mean yield: steeper away from mid scale, 128 there."""
    away = brightness - 50.0
    return 128.0 + 2.4 * away + 0.012 * away * abs(away)


def annular_transfer(disc_px: float) -> npt.NDArray[np.complex64]:
    """Return the transfer function (half spectrum, FIELD_PX rows) of a ring of outer diameter `disc_px`.

    Edges are anti-aliased over one pixel, so that the kernel changes smoothly with focus and goes to a point.
    """
    reach = np.minimum(np.arange(FIELD_PX), FIELD_PX - np.arange(FIELD_PX)).astype(np.float32)
    distance = np.hypot(reach[:, None], reach[None, :])
    outer = disc_px / 2.0
    kernel = np.clip(outer + 0.5 - distance, 0.0, 1.0) - np.clip(_HOLE * outer - distance, 0.0, 1.0)
    kernel[0, 0] = max(float(kernel[0, 0]), 1e-3)
    fy = np.fft.fftfreq(FIELD_PX)[:, None]
    fx = np.fft.rfftfreq(FIELD_PX)[None, :]
    probe = np.exp(-2.0 * (np.pi * PROBE_SIGMA_PX) ** 2 * (fy**2 + fx**2))
    return np.asarray(np.fft.rfft2(kernel / kernel.sum()) * probe, dtype=np.complex64)


def clipped_share(image: GreyImage) -> float:
    """Return the share of pixels at 0 or 255."""
    return float(np.mean((image == 0) | (image == 255)))


def exposure_good(image: GreyImage) -> bool:
    """Return whether at most 3 % of the pixels are clipped and the mean grey lies in 50..205."""
    return clipped_share(image) <= 0.03 and 50.0 <= float(image.mean()) <= 205.0


@functools.cache
def _surface(name: str, seed: int) -> FloatImage:
    """Return the specimen; made once for each name and seed, never written to."""
    surface = make_sample(name, np.random.default_rng(seed))
    surface.setflags(write=False)
    return surface


@dataclass(slots=True)
class Column:
    """One specimen under one beam. `knobs` is the state; everything else is fixed.

    Args:
        knobs: Where the operator left the instrument.
        focus_mm: The working distance in mm at which the specimen is sharp.
        sample: Surface as made by `make_sample`.
        rng: Source of detector noise.
    """

    knobs: Knobs
    focus_mm: float
    sample: FloatImage
    rng: np.random.Generator
    _spectrum: npt.NDArray[np.complex64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Transform the specimen once; every scan reuses its spectrum."""
        self._spectrum = np.asarray(np.fft.rfft2(self.sample), dtype=np.complex64)

    @classmethod
    def off_focus(
        cls,
        sample_name: str,
        *,
        magnification: float,
        focus_mm: float,
        discs_off: float,
        brightness: float,
        contrast: float,
        seed: int,
    ) -> Column:
        """Return a column whose working distance is `discs_off` tolerable discs beyond focus (signed)."""
        wd_mm = round(focus_mm + discs_off * disc_unit_mm(magnification), 4)
        knobs = Knobs(magnification, wd_mm, brightness, contrast)
        return cls(knobs, focus_mm, _surface(sample_name, seed), np.random.default_rng(seed + 1))

    def turn(
        self, *, wd_mm: float | None = None, brightness: float | None = None, contrast: float | None = None
    ) -> None:
        """Set the knobs that are given; the rest stays."""
        old = self.knobs
        self.knobs = replace(
            old,
            wd_mm=old.wd_mm if wd_mm is None else wd_mm,
            brightness=old.brightness if brightness is None else brightness,
            contrast=old.contrast if contrast is None else contrast,
        )

    def disc_px(self) -> float:
        """Return the outer diameter in px of the blur disc at the present working distance."""
        defocus_mm = abs(self.knobs.wd_mm - self.focus_mm)
        return 2.0 * ALPHA_RAD * defocus_mm / pixel_mm(self.knobs.magnification)

    def in_focus(self) -> bool:
        """Return whether the blur disc is at most 1.2 times the tolerable one."""
        return self.disc_px() <= 1.2 * tolerable_disc_px(self.knobs.magnification)

    def scan(self) -> GreyImage:
        """Return one scan, uint8, shape (480, 640), with shot and amplifier noise."""
        blurred = np.fft.irfft2(self._spectrum * annular_transfer(self.disc_px()), s=(FIELD_PX, FIELD_PX))
        top, left = (FIELD_PX - HEIGHT_PX) // 2, (FIELD_PX - WIDTH_PX) // 2
        electrons = np.clip(blurred[top : top + HEIGHT_PX, left : left + WIDTH_PX], 0.0, 1.0)
        amplification = 255.0 * gain(self.knobs.contrast)
        shot = 0.018 * np.sqrt(electrons / _MEAN_YIELD) * self.rng.standard_normal(electrons.shape)
        amplifier = 1.2 * self.rng.standard_normal(electrons.shape)
        grey = offset_grey(self.knobs.brightness) + amplification * (electrons - _MEAN_YIELD + shot) + amplifier
        return np.asarray(np.clip(np.rint(grey), 0, 255), dtype=np.uint8)
