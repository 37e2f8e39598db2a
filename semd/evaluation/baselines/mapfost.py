"""MAPFoSt (package `mapfost`): defocus estimated from two frames, one on either side of the present working distance.

J. Binding, S. Mikula and W. Denk, Low-dosage Maximum-A-Posteriori Focusing and Stigmation, 2013. The package is used
unchanged. Its parameter `num_aperture` must be calibrated for each instrument, on a known defocus.
"""

from __future__ import annotations

import math
import statistics
from types import ModuleType

from semd.domain.limits import Optics
from semd.errors import BaselineError
from semd.evaluation.baselines.baseline_harness import BaselineHarness
from semd.evaluation.baselines.third_party import load_package
from semd.simulator.microscope import VirtualMicroscope

_PUBLISHED_APERTURE = 0.004
_CROP_PX, _LEFT_PX, _TOP_PX = 448, 96, 16
_MOST_PAIRS = 12
# Of 4, 6, 9 and 12 depths of field, 6 worked best: in focus as often as with 4, with fewer frames.
_PERTURBATION_U = 6.0
# After a last correction of one depth of field, the remaining error is well below one.
_TOLERANCE_U = 1.0

_CALIBRATION_SEEDS = (1_000_003, 1_000_004, 1_000_005)
_CALIBRATION_DEFOCUS_U = 4.0
_CALIBRATION_ROUNDS = 12
_CALIBRATION_ELECTRONS = 800.0


class Mapfost:
    """Pairs of frames and corrections until a correction is less than a depth of field."""

    def __init__(self, *, calibrated: bool) -> None:
        """Load the package.

        Args:
            calibrated: True to calibrate the aperture once at each magnification, on separate fields with frames that
                are not counted; False for the default of the package.

        Raises:
            BaselineError: the package is not installed or cannot be imported.
        """
        self._package = load_package("mapfost.mapfost")
        self._calibrated = calibrated
        self._radius_mm: dict[float, float] = {}

    def focus(self, harness: BaselineHarness) -> bool:
        """Correct the working distance until a correction is below the tolerance; return True if that happened.

        Raises:
            BaselineError: the package rejects the frames, or the frame budget is spent.
        """
        for _ in range(_MOST_PAIRS):
            defocus_mm = estimate_defocus_mm(self._package, harness, self._aperture(harness))
            low_mm, high_mm = harness.range_mm
            harness.apply(wd_mm=min(max(harness.wd_mm - defocus_mm, low_mm), high_mm))
            if abs(defocus_mm) < _TOLERANCE_U * harness.unit_mm:
                return True
        return False

    def _aperture(self, harness: BaselineHarness) -> float:
        if not self._calibrated:
            return _PUBLISHED_APERTURE
        magnification = harness.magnification
        if magnification not in self._radius_mm:
            radii_mm = [calibrate_radius_mm(self._package, magnification, seed) for seed in _CALIBRATION_SEEDS]
            self._radius_mm[magnification] = statistics.median(radii_mm)
        return self._radius_mm[magnification] / harness.wd_mm


def estimate_defocus_mm(package: ModuleType, harness: BaselineHarness, aperture: float) -> float:
    """Estimate the defocus in mm from two frames; the working distance is restored.

    Raises:
        BaselineError: the package rejects the frames, or the frame budget is spent.
    """
    wd_mm, perturbation_mm = harness.wd_mm, _PERTURBATION_U * harness.unit_mm
    images = [harness.scan_at(wd_mm + side * perturbation_mm).image for side in (-1.0, 1.0)]
    harness.apply(wd_mm=wd_mm)
    verdict, _, result = package.est_aberr(
        images,
        [-perturbation_mm * 1e3, perturbation_mm * 1e3],
        pix_size_um=harness.pixel_um,
        num_aperture=aperture,
        crop_ref=[_LEFT_PX, _TOP_PX],
        crop_size=(_CROP_PX, _CROP_PX),
        test_ims_aligned=1,
    )
    if verdict is not True:
        # The package catches its own exceptions and returns the traceback as text; False means an unusable crop.
        raise BaselineError(f"mapfost refused the frames: {str(verdict).strip().splitlines()[-1]}")
    return float(result.x[0]) * 1e-3


def calibrate_radius_mm(package: ModuleType, magnification: float, seed: int) -> float:
    """Calibrate the aperture on a known defocus of a tin-ball field, at a high dose.

    Args:
        package: module `mapfost.mapfost`.
        magnification: magnification.
        seed: seed of the field and its microscope.

    Returns:
        Radius of the aperture in mm; divided by the working distance it is the package's `num_aperture`.

    Raises:
        BaselineError: the package rejects the frames.
    """
    microscope = VirtualMicroscope("tinball", magnification, seed)
    microscope.set_dose(_CALIBRATION_ELECTRONS)
    detector = microscope.detector
    true_mm = _CALIBRATION_DEFOCUS_U * Optics().focus_unit_mm(magnification)
    microscope.apply(
        wd_mm=microscope.focus_wd_mm + true_mm,
        brightness=detector.brightness_optimum,
        contrast=detector.contrast_optimum,
    )
    harness = BaselineHarness(microscope, budget=2 * _CALIBRATION_ROUNDS)
    aperture = _PUBLISHED_APERTURE
    for _ in range(_CALIBRATION_ROUNDS):
        ratio = estimate_defocus_mm(package, harness, aperture) / true_mm
        # Limit the effect of one bad pair; a negative ratio would make the aperture imaginary.
        aperture *= math.sqrt(min(max(ratio, 0.05), 20.0))
    return aperture * harness.wd_mm
