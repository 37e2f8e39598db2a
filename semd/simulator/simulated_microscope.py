"""The virtual microscope behind the control machine's environment, for training and tests on rendered frames."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from semd.domain.axes import Axis, Parameters
from semd.protocol.action import round_target
from semd.simulator.field import Sample
from semd.simulator.microscope import Imperfections, VirtualMicroscope
from semd.simulator.microscope_interface import Shot
from semd.simulator.optics import ALPHA_NOMINAL_MRAD
from semd.simulator.twin_scene import ELECTRONS, IMPERFECT_SHARE, MOST_BACKLASH_U, MOST_DRIFT_U, SceneRanges

_SAMPLES: tuple[Sample, ...] = ("tinball", "grid", "assorted")
MAGNIFICATIONS = (500.0, 1000.0, 2000.0, 5000.0, 10_000.0)
_MIDDLE_WD_MM = 10.0
"""Of the stage heights drawn: there the aperture has the half angle drawn."""


class SimulatedMicroscope:
    """A `microscope_interface.Microscope` over a `VirtualMicroscope`; rounds as the text files do."""

    def __init__(self, microscope: VirtualMicroscope) -> None:
        """Take the microscope over."""
        self.microscope = microscope

    def scan(self) -> Shot:
        """Scan with the present settings."""
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
        """Move the axes named to absolute targets."""
        self.microscope.apply(
            wd_mm=targets.get(Axis.WD),
            brightness=targets.get(Axis.BRIGHTNESS),
            contrast=targets.get(Axis.CONTRAST),
        )


def draw_microscope(seed: int) -> SimulatedMicroscope:
    """A microscope with everything about it drawn from `seed`: what `SemEnvironment` asks for.

    Drawn are sample, magnification, field, stage height, start anywhere in the control window, the detector's
    optimum, and in the ranges of the feature-level twin the aperture's angle, dose, backlash and drift of the focus.
    """
    rng = np.random.default_rng([seed, 7003])
    sample = _SAMPLES[int(rng.integers(len(_SAMPLES)))]
    magnification = float(rng.choice(MAGNIFICATIONS))
    low_mrad, high_mrad = SceneRanges().alpha_mrad
    alpha_mrad = float(rng.triangular(low_mrad, ALPHA_NOMINAL_MRAD, high_mrad))
    electrons = float(np.exp(rng.uniform(*np.log(ELECTRONS))))
    imperfections = Imperfections(
        backlash_u=_sometimes(rng, MOST_BACKLASH_U), focus_drift_u=_sometimes(rng, MOST_DRIFT_U)
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
    """0 in the share of perfect microscopes, else anything up to `most`."""
    size = float(rng.uniform(0.0, most))
    return size if rng.random() < IMPERFECT_SHARE else 0.0
