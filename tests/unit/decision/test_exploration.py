"""Runs that have found nothing yet look where they have not been."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semd.decision.aim import next_wd_mm
from semd.decision.assessment import assess
from semd.decision.decide import decide
from semd.decision.rules import RunRules
from semd.decision.run import Run, advance, run_window
from semd.domain.axes import Axis, Parameters
from semd.domain.exposure import Exposure
from semd.domain.features import Features
from semd.domain.limits import AxisLimits, Optics
from semd.domain.observation import Measurement, Observation
from semd.protocol.action import Status

FEATURES = Features(avg=120.0, grd=1000.0, var=900.0, pixels=100)
FINE = Exposure(0.0, 0.0, 120.0, 150.0)
RULES = RunRules()
UNIT_MM = Optics().focus_unit_mm(2000.0)
START_MM = 10.0
HILL = (0.0, 8.0, 12.0, 6.0, 9.0, 12.0, 10.0)
"""Seven frames up and down a hill that is none; the window reaches from -30 to 30 units."""


def at(units: float, score: float = 2.5, sigma: float = 0.3) -> Observation:
    parameters = Parameters(2000.0, START_MM + units * UNIT_MM, 50.0, 50.0)
    return Observation("frame", parameters, Measurement(score, FEATURES, FINE, sigma, ()))


def unseen_units(frames: tuple[Observation, ...], rules: RunRules = RULES) -> float | None:
    """Where the run goes instead of following the actor; None where the actor leads."""
    run, start = None, frames[0].parameters
    if len(frames) > 1:
        run = Run(frames[:-1], start, frames[-2].parameters, {}, Status.ADJUST, len(frames) - 1, 0, restarts_next=False)
    actor_mm = START_MM + 1000.0 * UNIT_MM
    wd_mm = next_wd_mm(assess(run, frames[-1], rules), actor_mm, run_window(start, rules), rules)
    return None if wd_mm == actor_mm else (wd_mm - START_MM) / UNIT_MM


def test_it_goes_where_most_is_unseen_and_stays_with_it() -> None:
    assert unseen_units(tuple(map(at, HILL))) == pytest.approx(-10.0)
    assert unseen_units((*map(at, HILL), at(-10.0))) == pytest.approx(-20.0)
    # 23 units remain above, but on the way there nothing is gained. The end at -30, which is seen from one side only,
    # counts as -35.
    assert unseen_units((*map(at, HILL), at(-10.0), at(-20.0))) == pytest.approx(-27.5)
    assert unseen_units((*map(at, HILL), at(-10.0), at(-20.0), at(-27.5))) == pytest.approx(22.0)


def test_a_stretch_between_two_frames_is_entered_by_half_at_most() -> None:
    frames = tuple(map(at, (0.0, 28.0, 24.0, 14.0, -12.0, -24.0, -29.0)))
    assert unseen_units(frames) == pytest.approx(-18.0)
    assert unseen_units((*frames, at(-18.0), at(-6.0))) == pytest.approx(7.0)


def test_all_the_rest_is_left_to_the_actor() -> None:
    few = tuple(map(at, HILL[:6]))
    assert unseen_units(few) is None
    assert unseen_units((*few, at(10.0, 7.5, 0.16))) is None
    assert unseen_units((*few, at(10.0, 7.5, 0.3))) is not None
    assert unseen_units((at(0.0), *map(at, np.linspace(-30.0, 30.0, 7)))) is None
    assert unseen_units(tuple(map(at, HILL)), replace(RULES, optics=None)) is None


def test_beyond_the_limits_there_is_nothing_to_see() -> None:
    low = START_MM - 2.0 * UNIT_MM
    rules = replace(RULES, limits={**RULES.limits, Axis.WD: AxisLimits(low, 40.0)})
    assert unseen_units(tuple(map(at, HILL)), rules) == pytest.approx(22.0)


def test_a_run_that_climbs_hills_is_sent_away_from_them() -> None:
    run: Run | None = None
    for number, place in enumerate(HILL):
        sent = None if run is None else replace(run, targets={})
        decision = decide(sent, at(place), RULES, lambda _: np.array([0.01, 0.0, 0.0], np.float32))
        run = advance(sent, at(place), decision)
        there = (decision.targets[Axis.WD] - START_MM) / UNIT_MM
        if number < len(HILL) - 1:
            assert there == pytest.approx(place + 0.3, abs=0.05)
    # As far as one step goes, (5): 0.2 of the window's 60 units.
    assert there == pytest.approx(10.0 - 12.0, abs=0.05)


@given(st.lists(st.floats(-30.0, 30.0), min_size=7, max_size=12))
@settings(max_examples=60, deadline=None)
def test_in_the_end_every_focus_in_the_window_has_been_near(places: list[float]) -> None:
    been = [0.0, *places]
    while (there := unseen_units(tuple(map(at, been)))) is not None:
        been.append(been[-1] + max(min(there - been[-1], 12.0), -12.0))
        assert abs(been[-1]) <= 30.0
        assert len(been) <= len(places) + 14
    for focus in np.linspace(-30.0, 30.0, 61):
        assert min(abs(focus - place) for place in been) <= 7.0 + 1e-6
