"""Virtual tabletop SEM on one field of view: working distance, brightness and contrast, and a scan."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from semd.errors import ConfigError
from semd.simulator.detector import Detector, Frame
from semd.simulator.field import Field, Sample, crop_margin, make_field
from semd.simulator.grid import HollowPolicy
from semd.simulator.optics import ElectronOptics, wd_unit_mm
from semd.simulator.texture import Picture
from semd.simulator.truth import Truth, ground_truth

_NEAREST_START_U = 3.0
_FARTHEST_START_U = 25.0
_HALF_WINDOW_U = 30.0


@dataclass(frozen=True, slots=True)
class KnobLimits:
    """Adjustment ranges of the knobs.

    Attributes:
        wd_mm: lowest and highest working distance in mm.
        brightness: lowest and highest brightness setting.
        contrast: lowest and highest contrast setting.
    """

    wd_mm: tuple[float, float] = (3.0, 20.0)
    brightness: tuple[float, float] = (0.0, 100.0)
    contrast: tuple[float, float] = (0.0, 100.0)


@dataclass(frozen=True, slots=True)
class Imperfections:
    """Instrument imperfections.

    Attributes:
        backlash_u: lens hysteresis: lag of the working distance behind the last direction of travel, in units of
            `wd_unit_mm`.
        focus_drift_u: standard deviation of the focus drift from scan to scan, in the same unit.
        astigmatism_u: largest half distance between the two foci, in the same unit; the seed draws a share of it.
        jitter_px: standard deviation of the line jitter in pixels.
        charging_grey: amplitude of the charging stripes in grey levels.
    """

    backlash_u: float = 0.0
    focus_drift_u: float = 0.0
    astigmatism_u: float = 0.15
    jitter_px: float = 0.1
    charging_grey: float = 0.0


@dataclass(frozen=True, slots=True)
class Scan:
    """Scanned frame with its settings and ground truth.

    Attributes:
        image: uint8 (480, 640), grey.
        truth: ground truth.
        wd_mm: working distance setting in mm.
        brightness: brightness setting.
        contrast: contrast setting.
    """

    image: Frame
    truth: Truth
    wd_mm: float
    brightness: float
    contrast: float


class VirtualMicroscope:
    """Virtual microscope on one field of view, determined by its arguments.

    The seed determines field, stage height (7..13 mm), detector optimum, dose and start settings. The start is 3 to 25
    WD units (`wd_unit_mm`) out of focus, with brightness and contrast in 10..90. With `start_anywhere` it lies anywhere
    in the control window of 60 units and within the knob limits. The field stays the same; the noise differs from scan
    to scan.

    Attributes:
        sample: kind of sample.
        magnification: magnification.
        focus_wd_mm: working distance that is in focus now; it drifts if `focus_drift_u` is positive.
        limits: adjustment ranges of the knobs.
        imperfections: instrument imperfections.
        optics: electron optics of the column.
        detector: detector tuned to the field.
        field: field of view.
    """

    def __init__(
        self,
        sample: Sample,
        magnification: float,
        seed: int,
        *,
        limits: KnobLimits | None = None,
        imperfections: Imperfections | None = None,
        hollow: HollowPolicy = "avoid",
        field: Field | None = None,
        start_anywhere: bool = False,
        aperture_radius_um: float = 30.0,
    ) -> None:
        """Set up the microscope at the start that the seed determines.

        Args:
            sample: kind of sample.
            magnification: magnification.
            seed: seed of field, column, detector, start and noise.
            limits: adjustment ranges of the knobs.
            imperfections: instrument imperfections.
            hollow: placement of a grid field relative to the grid's hollows.
            field: field to scan instead of the one that the seed determines.
            start_anywhere: start anywhere in the control window; see the class.
            aperture_radius_um: radius of the final aperture; its half angle is `aperture_radius_um / wd_mm` mrad.

        Raises:
            ConfigError: unknown sample, or a magnification or an aperture that is not positive.
        """
        if not 0.0 < aperture_radius_um < math.inf:
            raise ConfigError(f"aperture_radius_um must be a positive number, not {aperture_radius_um}")
        self.sample: Sample = sample
        self.magnification = magnification
        self.limits = limits or KnobLimits()
        self.imperfections = imperfections or Imperfections()
        self.field: Field = field or make_field(sample, magnification, seed, hollow)
        # Separate random streams for set-up and noise: the number of scans must not change the set-up.
        rng = np.random.default_rng([seed, round(magnification), 7001])
        self._noise_rng = np.random.default_rng([seed, round(magnification), 7002])

        self._unit_mm = wd_unit_mm(magnification)
        self.focus_wd_mm = float(rng.uniform(7.0, 13.0))
        self.optics = ElectronOptics(
            aperture_radius_um=aperture_radius_um,
            source_nm=float(rng.uniform(25.0, 45.0)),
            astigmatism_mm=self.imperfections.astigmatism_u * self._unit_mm * float(rng.uniform(0.0, 1.0)),
            astigmatism_rad=float(rng.uniform(0.0, np.pi)),
            rim=float(rng.uniform(0.15, 0.5)),
        )
        focus_blur = self.optics.blur(self.focus_wd_mm, self.focus_wd_mm, self.field.pixel_size_nm)
        self._focused: Picture = np.ascontiguousarray(crop_margin(focus_blur.apply(self.field.emission)))
        self.detector = Detector(
            brightness_optimum=float(rng.uniform(35.0, 65.0)),
            contrast_optimum=float(rng.uniform(35.0, 65.0)),
            electrons=float(np.exp(rng.uniform(np.log(80.0), np.log(800.0)))),
            readout_grey=float(rng.uniform(0.8, 2.5)),
            smear=float(rng.uniform(0.0, 0.4)),
            jitter_px=self.imperfections.jitter_px,
            charging_grey=self.imperfections.charging_grey,
        ).tuned_to(self._focused)

        if start_anywhere:
            self.wd_mm = self._start_wd_mm(rng, 0.0, _HALF_WINDOW_U)
            self.brightness = float(rng.uniform(*self.limits.brightness))
            self.contrast = float(rng.uniform(*self.limits.contrast))
        else:
            self.wd_mm = self._start_wd_mm(rng, _NEAREST_START_U, _FARTHEST_START_U)
            self.brightness = float(rng.uniform(10.0, 90.0))
            self.contrast = float(rng.uniform(10.0, 90.0))
        self._lag_mm = 0.0

    @property
    def wd_unit_mm(self) -> float:
        """Unit of defocus in mm: the defocus that experts tolerate at this magnification (`optics.wd_unit_mm`)."""
        return self._unit_mm

    def apply(
        self, *, wd_mm: float | None = None, brightness: float | None = None, contrast: float | None = None
    ) -> None:
        """Set knobs; values beyond the limits are clamped, knobs not given stay as they are.

        Raises:
            ConfigError: a value is not a finite number.
        """
        for name, value in (("wd_mm", wd_mm), ("brightness", brightness), ("contrast", contrast)):
            if value is not None and not math.isfinite(value):
                raise ConfigError(f"{name} must be a finite number, not {value}")
        if wd_mm is not None:
            target_mm = _clamp(wd_mm, self.limits.wd_mm)
            if target_mm != self.wd_mm:
                self._lag_mm = -math.copysign(self.imperfections.backlash_u * self._unit_mm, target_mm - self.wd_mm)
            self.wd_mm = target_mm
        if brightness is not None:
            self.brightness = _clamp(brightness, self.limits.brightness)
        if contrast is not None:
            self.contrast = _clamp(contrast, self.limits.contrast)

    def scan(self) -> Scan:
        """Scan a frame at the current settings and compute its ground truth."""
        if self.imperfections.focus_drift_u > 0.0:
            self.focus_wd_mm += self.imperfections.focus_drift_u * self._unit_mm * self._noise_rng.standard_normal()
        lens_wd_mm = self.wd_mm + self._lag_mm
        blur = self.optics.blur(lens_wd_mm, self.focus_wd_mm, self.field.pixel_size_nm)
        signal = np.ascontiguousarray(crop_margin(blur.apply(self.field.emission)))
        image = self.detector.digitise(signal, self.brightness, self.contrast, self._noise_rng)
        truth = ground_truth(
            signal,
            self._focused,
            self.detector,
            self.magnification,
            self.brightness,
            self.contrast,
            blur.effective_px,
            lens_wd_mm - self.focus_wd_mm,
        )
        return Scan(image, truth, self.wd_mm, self.brightness, self.contrast)

    def set_dose(self, electrons: float) -> None:
        """Set the detected electrons per pixel at emission 1, which scales with the dwell time."""
        self.detector = replace(self.detector, electrons=electrons)

    def _start_wd_mm(self, rng: np.random.Generator, nearest_u: float, farthest_u: float) -> float:
        """Draw a start at a random distance from focus, on the other side if it would lie beyond a limit."""
        distance_mm = float(rng.uniform(nearest_u, farthest_u)) * self._unit_mm
        side = 1.0 if rng.uniform() < 0.5 else -1.0
        low, high = self.limits.wd_mm
        if not low <= self.focus_wd_mm + side * distance_mm <= high:
            side = -side
        return _clamp(self.focus_wd_mm + side * distance_mm, self.limits.wd_mm)


def _clamp(value: float, limits: tuple[float, float]) -> float:
    return min(max(float(value), limits[0]), limits[1])
