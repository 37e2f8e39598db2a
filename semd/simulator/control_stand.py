"""The virtual microscope behind the control machine's environment, for training and tests on rendered frames."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from semd.control.microscope import Shot
from semd.domain.action import round_target
from semd.domain.axes import Axis, Parameters
from semd.simulator.field import Sample
from semd.simulator.microscope import VirtualMicroscope

_SAMPLES: tuple[Sample, ...] = ("tinball", "grid", "assorted")
MAGNIFICATIONS = (500.0, 1000.0, 2000.0, 5000.0, 10_000.0)


class SimulatedStand:
    """A `control.microscope.Microscope` over a `VirtualMicroscope`; rounds as the text files do."""

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


def draw_stand(seed: int) -> SimulatedStand:
    """A stand with sample, magnification, field and start drawn from `seed`: what `SemEnvironment` asks for."""
    rng = np.random.default_rng([seed, 7003])
    sample = _SAMPLES[int(rng.integers(len(_SAMPLES)))]
    return SimulatedStand(VirtualMicroscope(sample, float(rng.choice(MAGNIFICATIONS)), seed))
