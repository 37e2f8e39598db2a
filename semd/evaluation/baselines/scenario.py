"""Scenarios of the comparison: noise settings, and the start of a run in each."""

from __future__ import annotations

from dataclasses import dataclass, field

from semd.simulator.field import Sample
from semd.simulator.microscope import Imperfections, VirtualMicroscope


@dataclass(frozen=True, slots=True)
class Scenario:
    """One noise setting.

    Attributes:
        key: short name in tables and files.
        title: description in words.
        electrons: detected electrons per pixel at emission 1; None for a number drawn from the seed, 80..800.
        imperfections: imperfections of the instrument.
        exposure_off: True if brightness and contrast start anywhere in 10..90 for methods that set them.
    """

    key: str
    title: str
    electrons: float | None = None
    imperfections: Imperfections = field(default_factory=Imperfections)
    exposure_off: bool = False

    def microscope(self, sample: Sample, magnification: int, seed: int, *, focus_only: bool) -> VirtualMicroscope:
        """Make a microscope at its start; field, focus and initial working distance depend on the seed alone.

        Brightness and contrast start at the field's optimum unless `exposure_off` is set and the method sets them.
        """
        microscope = VirtualMicroscope(sample, magnification, seed, imperfections=self.imperfections)
        if self.electrons is not None:
            microscope.set_dose(self.electrons)
        if focus_only or not self.exposure_off:
            detector = microscope.detector
            microscope.apply(brightness=detector.brightness_optimum, contrast=detector.contrast_optimum)
        return microscope


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("low-noise", "low noise: 800 electrons per pixel", electrons=800.0),
    Scenario("high-noise", "high noise: 80 electrons per pixel", electrons=80.0),
    Scenario(
        "drift",
        "drift: the focus walks by 0.2 depths of field (standard deviation) from frame to frame",
        imperfections=Imperfections(focus_drift_u=0.2),
    ),
    Scenario("exposure-off", "brightness and contrast off: both start anywhere in 10..90", exposure_off=True),
)
