"""MAPFoSt (package `mapfost`): defocus estimated from two frames, one either side of where the knob stands.

J. Binding, S. Mikula and W. Denk, Low-dosage Maximum-A-Posteriori Focusing and Stigmation, 2013. The package is called
as it is published. What it calls the aperture is to be calibrated for each instrument, on a known defocus.
"""

from __future__ import annotations

import math
import statistics
from types import ModuleType

from semd.domain.limits import Optics
from semd.errors import PeerError
from semd.evaluation.baselines.baseline_harness import Bench
from semd.evaluation.baselines.third_party import load_package
from semd.simulator.microscope import VirtualMicroscope

_PUBLISHED_APERTURE = 0.004
_CROP_PX, _LEFT_PX, _TOP_PX = 448, 96, 16
_MOST_PAIRS = 12
# Of 4, 6, 9 and 12 depths of field 6 served it best (as often in focus as 4, in fewer frames); a last correction of one
# still leaves it well within one.
_PERTURBATION_U = 6.0
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
            calibrated: True where the aperture is calibrated once at each magnification, on fields set aside and frames
                that do not count; otherwise it is the package's default.

        Raises:
            PeerError: the package is not installed, or does not work here.
        """
        self._package = load_package("mapfost.mapfost")
        self._calibrated = calibrated
        self._radius_mm: dict[float, float] = {}

    def focus(self, bench: Bench) -> bool:
        """Correct; it believes in the focus once there is little left to correct.

        Raises:
            PeerError: the package refuses the frames, or the bench another frame.
        """
        for _ in range(_MOST_PAIRS):
            defocus_mm = estimate_defocus_mm(self._package, bench, self._aperture(bench))
            low_mm, high_mm = bench.range_mm
            bench.apply(wd_mm=min(max(bench.wd_mm - defocus_mm, low_mm), high_mm))
            if abs(defocus_mm) < _TOLERANCE_U * bench.unit_mm:
                return True
        return False

    def _aperture(self, bench: Bench) -> float:
        if not self._calibrated:
            return _PUBLISHED_APERTURE
        magnification = bench.magnification
        if magnification not in self._radius_mm:
            radii_mm = [calibrate_radius_mm(self._package, magnification, seed) for seed in _CALIBRATION_SEEDS]
            self._radius_mm[magnification] = statistics.median(radii_mm)
        return self._radius_mm[magnification] / bench.wd_mm


def estimate_defocus_mm(package: ModuleType, bench: Bench, aperture: float) -> float:
    """Defocus in mm from two frames; the knob is put back to where it stood.

    Raises:
        PeerError: the package refuses the frames, or the bench another frame.
    """
    wd_mm, perturbation_mm = bench.wd_mm, _PERTURBATION_U * bench.unit_mm
    images = [bench.view_at(wd_mm + side * perturbation_mm).image for side in (-1.0, 1.0)]
    bench.apply(wd_mm=wd_mm)
    verdict, _, result = package.est_aberr(
        images,
        [-perturbation_mm * 1e3, perturbation_mm * 1e3],
        pix_size_um=bench.pixel_um,
        num_aperture=aperture,
        crop_ref=[_LEFT_PX, _TOP_PX],
        crop_size=(_CROP_PX, _CROP_PX),
        test_ims_aligned=1,
    )
    if verdict is not True:
        # It catches its own exceptions and hands the trace back as text; False is for a crop it cannot use.
        raise PeerError(f"mapfost refused the frames: {str(verdict).strip().splitlines()[-1]}")
    return float(result.x[0]) * 1e-3


def calibrate_radius_mm(package: ModuleType, magnification: float, seed: int) -> float:
    """Calibrate the aperture on a known defocus of a tin-ball field, with plenty of electrons.

    Args:
        package: `mapfost.mapfost`.
        magnification: magnification.
        seed: of the field and its microscope.

    Returns:
        The aperture's radius in mm: over the working distance it is what the package takes as aperture.

    Raises:
        PeerError: the package refuses the frames.
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
    bench = Bench(microscope, budget=2 * _CALIBRATION_ROUNDS)
    aperture = _PUBLISHED_APERTURE
    for _ in range(_CALIBRATION_ROUNDS):
        ratio = estimate_defocus_mm(package, bench, aperture) / true_mm
        # One bad pair must not throw the aperture away, nor turn it imaginary.
        aperture *= math.sqrt(min(max(ratio, 0.05), 20.0))
    return aperture * bench.wd_mm
