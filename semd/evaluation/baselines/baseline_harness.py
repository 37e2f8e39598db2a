"""The bench every method works at: three knobs, a scan button that counts, and a truth that stays behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from semd.domain.limits import Optics
from semd.errors import PeerError
from semd.simulator.microscope import Scan, VirtualMicroscope
from semd.simulator.truth import Truth

FRAME_BUDGET = 50
"""Frames a run may take; who asks for one more has failed."""


@dataclass(frozen=True, slots=True)
class View:
    """One frame as a method gets it, without the truth.

    Attributes:
        image: uint8 (480, 640), grey.
        wd_mm, brightness, contrast: settings it was taken with.
    """

    image: NDArray[np.uint8]
    wd_mm: float
    brightness: float
    contrast: float


class Peer(Protocol):
    """An autofocus method."""

    def focus(self, bench: Bench) -> bool:
        """Leave the knobs where the picture is best; say whether the method itself believes that they are."""


class Bench:
    """A virtual microscope as a method sees it.

    Attributes:
        magnification: magnification.
        pixel_um: pixel size in µm.
        unit_mm: `Optics.focus_unit_mm`, one depth of field: everybody may scale his steps by it.
        range_mm: lowest and highest working distance between which the focus is known to lie: 30 depths of field either
            side of the start, where the knob goes so far; the same for everybody.
        frames: frames scanned so far.
        dose: detected electrons per pixel at emission 1, summed over these frames.
        overrun: True where more frames were asked for than the budget holds.
    """

    def __init__(self, microscope: VirtualMicroscope, budget: int = FRAME_BUDGET) -> None:
        """Put a microscope on the bench as it stands."""
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
        """Working distance as the knob stands."""
        return self._microscope.wd_mm

    @property
    def brightness(self) -> float:
        """Brightness as the knob stands."""
        return self._microscope.brightness

    @property
    def contrast(self) -> float:
        """Contrast as the knob stands."""
        return self._microscope.contrast

    def apply(
        self, *, wd_mm: float | None = None, brightness: float | None = None, contrast: float | None = None
    ) -> None:
        """Turn knobs; what is not given stays, what lies beyond the limits stops at them.

        Raises:
            ConfigError: a value is not a finite number.
        """
        self._microscope.apply(wd_mm=wd_mm, brightness=brightness, contrast=contrast)

    def scan(self) -> View:
        """Scan a frame.

        Raises:
            PeerError: the budget is spent.
        """
        if self.frames >= self._budget:
            # Kept here too, as a method may swallow the error.
            self.overrun = True
            raise PeerError(f"{self._budget} frames are spent")
        self.frames += 1
        self.dose += self._microscope.detector.electrons
        self._last = self._microscope.scan()
        return View(self._last.image, self._last.wd_mm, self._last.brightness, self._last.contrast)

    def view_at(self, wd_mm: float) -> View:
        """Scan a frame at a working distance."""
        self.apply(wd_mm=wd_mm)
        return self.scan()

    def end_truth(self) -> Truth:
        """Truth at the final settings: of the last frame, or else of the one that the user would take next."""
        last, knobs = self._last, (self.wd_mm, self.brightness, self.contrast)
        if last is not None and (last.wd_mm, last.brightness, last.contrast) == knobs:
            return last.truth
        return self._microscope.scan().truth
