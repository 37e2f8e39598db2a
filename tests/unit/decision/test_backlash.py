"""Runs that begin in focus, on a drive with backlash: they must not end less sharp than they began.

The oracle is a lens that stops short of where it is sent, on the side it comes from, and the experts' scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product

import numpy as np
import pytest

from semd.decision.decide import decide
from semd.decision.rules import RunRules
from semd.decision.run import Run, advance
from semd.domain.axes import Axis, Parameters
from semd.domain.expert_scale import focus_quality, lenient_blur_px
from semd.domain.exposure import Exposure
from semd.domain.features import Features
from semd.domain.limits import Optics
from semd.domain.observation import Measurement, Observation

RULES = RunRules()
MAGNIFICATION = 2000.0
UNIT_MM = Optics().focus_unit_mm(MAGNIFICATION)
START_MM = 10.0
EXPOSURE = Exposure(0.0, 0.0, 120.0, 150.0)
TELLABLE_POINTS = 0.1


class Drive:
    """A microscope whose lens lags behind the last move."""

    def __init__(self, focus_units: float, backlash_units: float, rest: float) -> None:
        self.knob_mm = START_MM
        self._lag_mm = 0.0
        self._focus_mm = START_MM + focus_units * UNIT_MM
        self._backlash_mm = backlash_units * UNIT_MM
        self._rest = rest

    def quality(self) -> float:
        blur = math.hypot((self.knob_mm + self._lag_mm - self._focus_mm) / UNIT_MM, self._rest)
        return focus_quality(lenient_blur_px(MAGNIFICATION) * blur, MAGNIFICATION)

    def apply(self, targets: Mapping[Axis, float]) -> None:
        target_mm = targets[Axis.WD]
        if target_mm != self.knob_mm:
            self._lag_mm = -math.copysign(self._backlash_mm, target_mm - self.knob_mm)
        self.knob_mm = target_mm


def lost_points(drive: Drive, misread_points: float) -> float:
    """Loss of sharpness from the run's start to its end; its scores are all off by the same amount."""
    start = drive.quality()
    run: Run | None = None
    while run is None or not run.status.is_terminal:
        said = Measurement(
            min(drive.quality() + misread_points, 10.0), Features(120.0, 1000.0, 900.0, 100), EXPOSURE, 0.17
        )
        seen = Observation("frame", Parameters(MAGNIFICATION, drive.knob_mm, 50.0, 50.0), said)
        decision = decide(run, seen, RULES, lambda _: np.zeros(3, np.float32))
        run = advance(run, seen, decision)
        drive.apply(decision.targets)
    return start - drive.quality()


@pytest.mark.parametrize("backlash_units", [0.0, 0.15, 0.25])
@pytest.mark.parametrize("rest", [0.2, 0.45])
def test_a_run_that_begins_in_focus_does_not_end_less_sharp(backlash_units: float, rest: float) -> None:
    lost = {
        (focus_units, misread_points): lost_points(Drive(focus_units, backlash_units, rest), misread_points)
        for focus_units, misread_points in product(np.linspace(-1.2, 1.2, 13), (-0.3, -0.1))
    }
    assert {start: points for start, points in lost.items() if points > TELLABLE_POINTS} == {}


def test_nor_where_one_flank_had_told_the_wrong_side() -> None:
    # Looked at from above alone it came back from above, and backlash held the lens off: 0.13 points less.
    assert lost_points(Drive(-0.1, 0.25, 0.45), -0.3) <= 0.05
