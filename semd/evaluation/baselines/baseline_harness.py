"""Harness of the compared methods: three settings, a counted scan, and a hidden ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from semd.domain.limits import Optics
from semd.errors import BaselineError
from semd.simulator.microscope import Scan, VirtualMicroscope
from semd.simulator.truth import Truth

FRAME_BUDGET = 50
"""Most frames of a run; a method that requests one more has failed. Twice the paper's budget of 25; chosen."""


@dataclass(frozen=True, slots=True)
class View:
    """One frame as a method receives it, without the ground truth.

    Attributes:
        image: uint8 (480, 640), grey.
        wd_mm, brightness, contrast: settings of the scan.
    """

    image: NDArray[np.uint8]
    wd_mm: float
    brightness: float
    contrast: float


class AutofocusMethod(Protocol):
    """An autofocus method."""

    def focus(self, harness: BaselineHarness) -> bool:
        """Move to the best settings; return True if the method itself reports success."""


class BaselineHarness:
    """A virtual microscope as the compared methods see it.

    Attributes:
        magnification: magnification.
        pixel_um: pixel size in µm.
        unit_mm: depth of field in mm (`Optics.focus_unit_mm`), by which methods may scale their steps.
        range_mm: search range, the lowest and highest working distance: 30 depths of field to either side of the
            start, within the limits. It contains the focus and is the same for every method.
        frames: number of frames scanned so far.
        dose: detected electrons per pixel at emission 1, summed over these frames.
        overrun: True if more frames were requested than the budget allows.
    """

    def __init__(self, microscope: VirtualMicroscope, budget: int = FRAME_BUDGET) -> None:
        """Wrap a microscope at its present settings, with a budget of frames."""
        optics = Optics()
        self._microscope = microscope
        self._budget = budget
        self._last: Scan | None = None
        self.magnification = microscope.magnification
        self.pixel_um = microscope.field.pixel_size_nm * 1e-3
        self.unit_mm = optics.focus_unit_mm(microscope.magnification)
        reach_mm = 0.5 * optics.window * self.unit_mm
        low_mm, high_mm = microscope.limits.wd_mm
        self.range_mm = (max(low_mm, microscope.wd_mm - reach_mm), min(high_mm, microscope.wd_mm + reach_mm))
        self.frames = 0
        self.dose = 0.0
        self.overrun = False

    @property
    def wd_mm(self) -> float:
        """Present working distance in mm."""
        return self._microscope.wd_mm

    @property
    def brightness(self) -> float:
        """Present brightness."""
        return self._microscope.brightness

    @property
    def contrast(self) -> float:
        """Present contrast."""
        return self._microscope.contrast

    def apply(
        self, *, wd_mm: float | None = None, brightness: float | None = None, contrast: float | None = None
    ) -> None:
        """Change settings, clamped to the limits; None leaves a setting as it is.

        Raises:
            ConfigError: a value is not a finite number.
        """
        self._microscope.apply(wd_mm=wd_mm, brightness=brightness, contrast=contrast)

    def scan(self) -> View:
        """Scan a frame.

        Raises:
            BaselineError: the budget is spent.
        """
        if self.frames >= self._budget:
            # Recorded as well, since a method may swallow the error.
            self.overrun = True
            raise BaselineError(f"{self._budget} frames are spent")
        self.frames += 1
        self.dose += self._microscope.detector.electrons
        self._last = self._microscope.scan()
        return View(self._last.image, self._last.wd_mm, self._last.brightness, self._last.contrast)

    def scan_at(self, wd_mm: float) -> View:
        """Move to a working distance and scan a frame."""
        self.apply(wd_mm=wd_mm)
        return self.scan()

    def end_truth(self) -> Truth:
        """Ground truth at the final settings: of the last frame if it has them, otherwise of a new scan."""
        last, knobs = self._last, (self.wd_mm, self.brightness, self.contrast)
        if last is not None and (last.wd_mm, last.brightness, last.contrast) == knobs:
            return last.truth
        return self._microscope.scan().truth
