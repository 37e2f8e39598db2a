"""Rendered frames for the control machine's environment: the virtual microscope behind the `Microscope` interface."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from semd.domain.axes import Axis, Parameters
from semd.protocol.action import round_target
from semd.simulator.field import Sample
from semd.simulator.microscope import Imperfections, VirtualMicroscope
from semd.simulator.microscope_interface import Shot
from semd.simulator.optics import ALPHA_NOMINAL_MRAD
from semd.simulator.twin_scene import ELECTRONS, IMPERFECT_SHARE, MAX_BACKLASH_U, MAX_DRIFT_U, SceneRanges

_SAMPLES: tuple[Sample, ...] = ("tinball", "grid", "assorted")
MAGNIFICATIONS = (500.0, 1000.0, 2000.0, 5000.0, 10_000.0)
_MIDDLE_WD_MM = 10.0
"""Middle of the stage heights drawn (7..13 mm); at this working distance the aperture has the half angle drawn."""


class SimulatedMicroscope:
    """A `Microscope` that scans a `VirtualMicroscope` and rounds its settings as the parameter texts do.

    Attributes:
        microscope: the virtual microscope.
    """

    def __init__(self, microscope: VirtualMicroscope) -> None:
        """Wrap a virtual microscope."""
        self.microscope = microscope

    def scan(self) -> Shot:
        """Scan a frame at the current settings."""
        scan = self.microscope.scan()
        return Shot(
            image=scan.image,
            parameters=Parameters(
                magnification=self.microscope.magnification,
                wd_mm=round_target(Axis.WD, scan.wd_mm),
                brightness=round_target(Axis.BRIGHTNESS, scan.brightness),
                contrast=round_target(Axis.CONTRAST, scan.contrast),
            ),
            quality=scan.truth.quality,
            exposure_ok=scan.truth.brightness_contrast_ok,
            wd_error_mm=scan.truth.wd_error_mm,
        )

    def apply(self, targets: Mapping[Axis, float]) -> None:
        """Move the given axes to absolute targets: mm for WD, the instrument's scale otherwise."""
        self.microscope.apply(
            wd_mm=targets.get(Axis.WD),
            brightness=targets.get(Axis.BRIGHTNESS),
            contrast=targets.get(Axis.CONTRAST),
        )


def draw_microscope(seed: int) -> SimulatedMicroscope:
    """Draw a microscope from a seed; one for each episode of `SemEnvironment`.

    The seed determines sample, magnification, field, stage height, detector optimum and a start anywhere in the control
    window. Aperture half angle, dose, backlash and focus drift come from the ranges of the feature-level twin.
    """
    rng = np.random.default_rng([seed, 7003])
    sample = _SAMPLES[int(rng.integers(len(_SAMPLES)))]
    magnification = float(rng.choice(MAGNIFICATIONS))
    low_mrad, high_mrad = SceneRanges().alpha_mrad
    alpha_mrad = float(rng.triangular(low_mrad, ALPHA_NOMINAL_MRAD, high_mrad))
    electrons = float(np.exp(rng.uniform(*np.log(ELECTRONS))))
    imperfections = Imperfections(
        backlash_u=_sometimes(rng, MAX_BACKLASH_U), focus_drift_u=_sometimes(rng, MAX_DRIFT_U)
    )
    microscope = VirtualMicroscope(
        sample,
        magnification,
        seed,
        imperfections=imperfections,
        start_anywhere=True,
        aperture_radius_um=alpha_mrad * _MIDDLE_WD_MM,
    )
    microscope.set_dose(electrons)
    return SimulatedMicroscope(microscope)


def _sometimes(rng: np.random.Generator, most: float) -> float:
    """Draw 0 with probability `1 - IMPERFECT_SHARE`, else a uniform value up to `most`."""
    size = float(rng.uniform(0.0, most))
    return size if rng.random() < IMPERFECT_SHARE else 0.0
