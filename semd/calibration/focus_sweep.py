"""Focus sweep: a coarse pass, a fine pass about its peak, and the move to the focus.

The working distance is always approached from below, because of the hysteresis of the lens: the same setting has
another focus after a move down than after a move up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semd.calibration.consensus import Consensus, coarse_peak, find_consensus, measure
from semd.calibration.instrument_driver import Instrument
from semd.decision.rules import RunRules
from semd.domain.axes import Axis, Parameters
from semd.domain.exposure import measure_exposure
from semd.domain.features import grey_histogram
from semd.domain.frame_score import QualityFlag
from semd.domain.limits import AxisLimits, Optics
from semd.errors import CalibrationError, ConfigError
from semd.scoring.faults import find_faults

_TOLERANCE_UNITS = 0.5


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """Reach and step of a sweep, in focus units (`Optics.focus_unit_mm`).

    Attributes:
        reach: reach of the coarse pass to either side of the present working distance.
        coarse_step: step of the coarse pass.
        fine_reach: reach of the fine pass to either side of the coarse peak.
        fine_step: step of the fine pass.
    """

    reach: float = 12.0
    coarse_step: float = 2.0
    fine_reach: float = 4.0
    fine_step: float = 0.5

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: a step is not positive or wider than a third of its reach, or the fine reach is too short.
        """
        for reach, step in ((self.reach, self.coarse_step), (self.fine_reach, self.fine_step)):
            if not 0.0 < step <= reach / 3.0:
                raise ConfigError(f"a sweep of {reach:g} to either side cannot have steps of {step:g}: take smaller")
        if self.fine_reach < self.coarse_step:
            raise ConfigError("the fine pass must reach at least one step of the coarse pass")

    @property
    def frames(self) -> int:
        """Number of frames of both passes, if no limit shortens them."""
        return 2 * int(self.reach / self.coarse_step) + 2 * int(self.fine_reach / self.fine_step) + 2


@dataclass(frozen=True, slots=True)
class SweepFrame:
    """One frame of a sweep, uint8 (H, W), and its working distance."""

    image: NDArray[np.uint8]
    wd_mm: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """Frames of a sweep and the focus they agree on.

    Attributes:
        frames: frames of both passes, in order of acquisition.
        start: parameters of the first frame.
        unit_mm: focus unit.
        pixel_mm: pixel size.
        consensus: focus, to which the working distance has been moved.
    """

    frames: tuple[SweepFrame, ...]
    start: Parameters
    unit_mm: float
    pixel_mm: float
    consensus: Consensus


def run_sweep(instrument: Instrument, rules: RunRules, plan: SweepPlan, show: Callable[[str], None]) -> Sweep:
    """Sweep, find the focus and move there; after a failure or Ctrl+C, move back to the start.

    Args:
        instrument: the microscope.
        rules: limits and optics.
        plan: reach and step.
        show: called with one line of text for every frame.

    Raises:
        CalibrationError: no consensus, bad brightness or contrast, or the instrument does not follow its commands.
        KeyboardInterrupt: Ctrl+C; the working distance is back at its start.
    """
    optics = rules.optics or Optics()
    try:
        begun = instrument.begin()
        now = begun.parameters
        unit_mm = optics.focus_unit_mm(now.magnification, now.pixel_nm)
        pixel_mm = optics.pixel_mm(now.magnification, now.pixel_nm)
        depth_mm = pixel_mm / (optics.aperture_half_angle_mrad * 1e-3)
        show(f"x{now.magnification:g}, WD {now.wd_mm:.4f} mm; about {plan.frames} frames, focus unit {unit_mm:.4f} mm")
        passes = _Passes(instrument, rules.limits[Axis.WD], show)
        coarse = passes.take(now.wd_mm, plan.reach * unit_mm, plan.coarse_step * unit_mm)
        about_mm = coarse_peak(_places(coarse), [measure(frame.image) for frame in coarse])
        fine = passes.take(about_mm, plan.fine_reach * unit_mm, plan.fine_step * unit_mm)
        # Only the fine pass is fitted: far from focus a frame is mostly noise, which looks sharp once standardised.
        tolerance_mm = max(depth_mm, _TOLERANCE_UNITS * unit_mm)
        consensus = find_consensus(_places(fine), [measure(frame.image) for frame in fine], tolerance_mm)
        _check_exposure(min(fine, key=lambda frame: abs(frame.wd_mm - consensus.wd_mm)))
        passes.approach(consensus.wd_mm, unit_mm)
        instrument.move(consensus.wd_mm)
        instrument.end()
    except (CalibrationError, KeyboardInterrupt) as reason:
        show(f"going back to the start: {reason or 'interrupted'}")
        try:
            instrument.retreat()
        except CalibrationError as error:
            raise CalibrationError(f"{reason or 'interrupted'}; and {error.message}") from reason
        raise
    return Sweep((*coarse, *fine), now, unit_mm, pixel_mm, consensus)


@dataclass(frozen=True, slots=True)
class _Passes:
    instrument: Instrument
    limits: AxisLimits
    show: Callable[[str], None]

    def take(self, centre_mm: float, reach_mm: float, step_mm: float) -> list[SweepFrame]:
        """Take frames on both sides of a centre, upwards, within the limits."""
        count = int(reach_mm / step_mm + 1e-9)
        places = [centre_mm + k * step_mm for k in range(-count, count + 1)]
        places = [place for place in places if self.limits.low <= place <= self.limits.high]
        self.approach(places[0], step_mm)
        frames = []
        for place in places:
            seen = self.instrument.move(place)
            frames.append(SweepFrame(seen.image, seen.parameters.wd_mm))
            self.show(f"frame at WD {seen.parameters.wd_mm:.4f} mm")
        return frames

    def approach(self, wd_mm: float, step_mm: float) -> None:
        """Move below a working distance, within the limits, so that the next move goes up to it."""
        below_mm = self.limits.clamp(wd_mm - step_mm)
        if below_mm < wd_mm:
            self.instrument.move(below_mm)


def _places(frames: list[SweepFrame]) -> NDArray[np.float64]:
    return np.array([frame.wd_mm for frame in frames])


def _check_exposure(sharpest: SweepFrame) -> None:
    faults: list[str] = sorted(find_faults(sharpest.image).flags)
    if measure_exposure(grey_histogram(sharpest.image)).is_flat:
        faults = [QualityFlag.BLANK]
    if faults:
        raise CalibrationError(
            f"the frame in focus is {' and '.join(faults)}: set brightness and contrast (or reduce charging) first"
        )
