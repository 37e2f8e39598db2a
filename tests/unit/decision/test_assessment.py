"""Runs whose frames are judged together: where the microscope is sent, and what is believed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from semd.decision.aim import next_wd_mm
from semd.decision.assessment import Assessment, assess
from semd.decision.decide import decide
from semd.decision.rules import RunRules
from semd.decision.run import Decision, Reason, Run, advance, run_window
from semd.domain.axes import Axis, Parameters
from semd.domain.expert_scale import focus_quality, lenient_blur_px
from semd.domain.exposure import Exposure
from semd.domain.features import Features
from semd.domain.frame_score import QualityFlag
from semd.domain.limits import Optics
from semd.domain.observation import Measurement, Observation
from semd.protocol.action import Status

FEATURES = Features(avg=120.0, grd=1000.0, var=900.0, pixels=100)
FINE = Exposure(0.0, 0.0, 120.0, 150.0)
DARK = Exposure(0.2, 0.0, 50.0, 60.0)
RULES = RunRules()
MAGNIFICATION = 2000.0
UNIT_MM = Optics().focus_unit_mm(MAGNIFICATION)
START_MM = 10.0


def quality(units_off: float) -> float:
    return focus_quality(lenient_blur_px(MAGNIFICATION) * float(np.hypot(units_off, 0.2)), MAGNIFICATION)


def frame(wd_mm: float, score: float, exposure: Exposure = FINE, *flags: QualityFlag) -> Observation:
    parameters = Parameters(MAGNIFICATION, wd_mm, 50.0, 50.0)
    return Observation("frame", parameters, Measurement(score, FEATURES, exposure, 0.21, flags))


def at(units: float, score: float, exposure: Exposure = FINE, *flags: QualityFlag) -> Observation:
    return frame(START_MM + units * UNIT_MM, score, exposure, *flags)


def seen(*units: float, focus: float = 0.0) -> tuple[Observation, ...]:
    return tuple(at(place, quality(place - focus)) for place in units)


def assessed(frames: tuple[Observation, ...], rules: RunRules = RULES) -> Assessment:
    """The last of some frames that the microscope was sent to, in its run."""
    run = None
    if len(frames) > 1:
        before, start = frames[:-1], frames[0].parameters
        run = Run(before, start, before[-1].parameters, {}, Status.ADJUST, len(before), 0, restarts_next=False)
    return assess(run, frames[-1], rules)


def aimed(told: Assessment, actor_mm: float, rules: RunRules = RULES) -> float:
    """The working distance to go to, given where the actor would."""
    start = told.observations[0].parameters
    return next_wd_mm(told, actor_mm, run_window(start, rules), rules)


def owes_start_a_look(told: Assessment) -> bool:
    return told.view is not None and told.view.owes_start


def prefers_start(told: Assessment) -> bool:
    return told.view is not None and told.view.start_sharper


def units_of(wd_mm: float) -> float:
    return (wd_mm - START_MM) / UNIT_MM


def decided(frames: tuple[Observation, ...], steps: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Decision:
    """The answer to the last of some frames that the microscope was sent to, one after the other."""
    run: Run | None = None
    for seen_frame in frames:
        sent = None if run is None else replace(run, targets={})
        decision = decide(sent, seen_frame, RULES, lambda _: np.array(steps, np.float32))
        run = advance(sent, seen_frame, decision)
    return decision


def test_while_the_focus_may_lie_on_either_side_the_actor_looks_for_it() -> None:
    assert aimed(assessed(seen(0.0, focus=7.0), RULES), 10.3, RULES) == 10.3


def test_scores_that_no_focus_explains_are_left_for_what_was_not_seen() -> None:
    hill = [(0.0, 1.0), (12.0, 5.8), (20.0, 1.5), (12.5, 3.1), (8.0, 2.6), (14.0, 5.9), (11.0, 1.4)]
    frames = tuple(at(place, score) for place, score in hill)
    assert aimed(assessed(frames[:-1], RULES), 10.3, RULES) == 10.3
    assert units_of(aimed(assessed(frames, RULES), 10.3, RULES)) == pytest.approx(-10.0)


def test_without_the_fit_the_actor_is_never_overruled() -> None:
    # So it is in training, where the actor is to learn what comes of its own steps.
    rules = replace(RULES, fits_focus=False)
    hill = tuple(at(place, 2.0) for place in (0.0, 12.0, 20.0, 12.5, 8.0, 14.0, 11.0))
    assert aimed(assessed(hill, rules), 10.3, rules) == 10.3
    # Nothing recognised, by contrast, is an answer: the focus is not here.
    blank = tuple(at(place, 0.0) for place in (0.0, 12.0, 20.0, 12.5, 8.0, 14.0, 11.0))
    assert assessed(blank, RULES).focus is None
    assert units_of(aimed(assessed(blank, RULES), 10.3, RULES)) == pytest.approx(-10.0)


def test_a_flank_is_not_left_however_long_it_is_climbed() -> None:
    flank = seen(0.0, 0.5, 1.0, 0.0, 0.5, 1.0, 0.5, focus=8.0)
    assert units_of(aimed(assessed(flank, RULES), START_MM, RULES)) == pytest.approx(8.0, abs=2.0)
    assert not assessed(flank, RULES).lost


def test_a_focus_is_believed_to_lie_in_the_window_or_not_far_beyond() -> None:
    told = assessed(tuple(at(place, 1.0) for place in (0.0, 10.0, 20.0)), RULES)
    assert told.focus is not None
    assert units_of(told.focus.grid_mm.min()) >= -1.3 * 30.0 - 1e-6
    assert units_of(told.focus.grid_mm.max()) <= 1.3 * 30.0 + 1e-6


def test_a_focus_that_is_known_is_gone_to() -> None:
    told = assessed(seen(0.0, 9.0, 4.0, focus=6.0), RULES)
    assert units_of(aimed(told, START_MM, RULES)) == pytest.approx(6.0, abs=0.4)


def test_in_focus_and_not_sure_of_it_the_less_known_flank_is_looked_at() -> None:
    below = assessed((*seen(-8.0, -3.0, -1.5), at(0.0, 8.95)), RULES)
    assert units_of(aimed(below, START_MM, RULES)) > 0.8
    above = assessed((*seen(8.0, 3.0, 1.5), at(0.0, 8.95)), RULES)
    assert units_of(aimed(above, START_MM, RULES)) < -0.8


def test_beyond_the_limits_no_flank_is_looked_for() -> None:
    def limited(low_units: float, high_units: float) -> RunRules:
        low, high = (START_MM + units * UNIT_MM for units in (low_units, high_units))
        return replace(RULES, limits={**RULES.limits, Axis.WD: replace(RULES.limits[Axis.WD], low=low, high=high)})

    in_focus = assessed((*seen(-8.0, -3.0, -1.5), at(0.0, 8.95)), RULES)
    assert units_of(aimed(in_focus, START_MM, limited(-9.0, 0.5))) < -0.8
    begun_there = assessed(seen(0.0, 1.2, focus=-0.3), RULES)
    assert units_of(aimed(begun_there, 10.3, limited(-0.5, 9.0))) == pytest.approx(-0.3, abs=0.4)


def test_in_focus_it_stays_there_while_the_exposure_is_mended() -> None:
    told = assessed((*seen(-8.0, -3.0, -1.5, 1.5), at(0.0, 8.8, DARK)), RULES)
    assert abs(units_of(aimed(told, START_MM, RULES))) < 0.4


def test_a_run_that_may_have_begun_in_focus_sees_its_start_fairly_before_it_ends() -> None:
    # The first frame was clipped, so nothing is known of its sharpness; then the run left it by a depth or less.
    unseen = (at(0.0, 9.8, DARK, QualityFlag.SATURATED), at(-1.0, 9.9))
    away = assessed((*unseen, at(-0.9, 9.9)), RULES)
    assert away.passes
    assert away.trusted
    assert owes_start_a_look(away)
    assert aimed(away, 10.3, RULES) == START_MM
    decision = decided((*unseen, at(-0.9, 9.9)))
    assert decision.status is Status.ADJUST
    assert decision.targets[Axis.WD] == pytest.approx(START_MM, abs=1e-4)
    back = assessed((*unseen, at(-0.9, 9.9), at(0.0, 9.8)), RULES)
    assert not owes_start_a_look(back)


def test_a_run_that_began_sharper_goes_back_before_it_ends() -> None:
    # The start has been seen fairly; the last passes surely, but is a quarter of a point less sharp.
    away = assessed((at(0.0, 9.3, DARK), *seen(3.0, 1.2, -1.2, 0.0, 0.6)), RULES)
    assert away.passes
    assert away.trusted
    assert not owes_start_a_look(away)
    assert prefers_start(away)
    assert abs(units_of(aimed(away, START_MM + 3.0 * UNIT_MM, RULES))) < 0.1


def test_a_run_that_may_have_begun_in_focus_sees_both_flanks_before_it_settles() -> None:
    one = assessed(seen(0.0, 1.2, focus=-0.3), RULES)
    assert units_of(aimed(one, 10.3, RULES)) < -1.0
    both = assessed(seen(0.0, 1.2, -1.4, focus=-0.3), RULES)
    assert units_of(aimed(both, 10.3, RULES)) == pytest.approx(-0.3, abs=0.1)
    # Coming from afar it has no start to lose.
    far = assessed(seen(0.0, 9.0, 7.5, focus=6.0), RULES)
    assert units_of(aimed(far, 10.3, RULES)) == pytest.approx(6.0, abs=0.4)


def test_scores_near_the_start_tell_by_themselves_which_is_sharper() -> None:
    # The dark frames drag the fit's opinion of the start down; of its own kind the start's score is the higher one.
    begun = (at(0.0, 9.02, DARK), at(0.0, 9.09, DARK), at(0.0, 9.83), at(1.4, 8.98))
    away = assessed((*begun, at(0.43, 9.4)), RULES)
    assert away.focus is not None
    assert away.focus.quality[2] - away.focus.quality[-1] < 0.05
    assert prefers_start(away)
    assert not prefers_start(assessed((*begun, at(0.43, 9.78)), RULES))


def test_a_start_no_sharper_than_the_end_is_not_gone_back_to() -> None:
    assert not prefers_start(assessed(seen(3.0, 1.2, 0.3), RULES))
    assert not prefers_start(assessed(seen(0.0, 3.0, 0.1), RULES))


def test_a_start_far_from_focus_is_owed_nothing() -> None:
    told = assessed((at(0.0, 2.0, DARK), *seen(5.0, 12.0, 7.5, 8.0, focus=8.0)), RULES)
    assert told.trusted
    assert not owes_start_a_look(told)


def test_a_start_beyond_the_limits_is_gone_to_as_far_as_they_reach() -> None:
    low, high = START_MM - 1.0, START_MM - 0.2 * UNIT_MM
    rules = replace(RULES, limits={**RULES.limits, Axis.WD: replace(RULES.limits[Axis.WD], low=low, high=high)})
    frames = (at(0.0, 9.8, DARK, QualityFlag.SATURATED), at(-1.0, 9.9), at(-0.9, 9.9))
    assert aimed(assessed(frames, rules), 10.3, rules) == pytest.approx(high)
    assert not owes_start_a_look(assessed((*frames, at(-0.2, 9.8)), rules))


def test_a_sharper_start_beyond_the_limits_keeps_no_run_from_ending() -> None:
    rules = replace(
        RULES, limits={**RULES.limits, Axis.WD: replace(RULES.limits[Axis.WD], low=1.0, high=START_MM - 0.6 * UNIT_MM)}
    )
    frames = (at(0.0, 9.3, DARK), *seen(0.0, -3.0, -1.2))
    assert prefers_start(assessed((*frames, *seen(-0.9)), rules))
    # Nearer than this it cannot come.
    assert not prefers_start(assessed((*frames, *seen(-0.6)), rules))


def test_the_others_overrule_a_score_by_so_much_and_no_more() -> None:
    flanks = seen(-8.0, -4.0, -1.5, 1.5, 4.0)
    helped = assessed((*flanks, at(0.0, 8.95)), RULES)
    assert helped.passes
    assert helped.trusted
    assert helped.measured[-1].score == 8.95
    refused = assessed((*flanks, at(0.0, 7.6)), RULES)
    assert refused.score == pytest.approx(7.6 + RULES.constants.max_correction_points)
    assert not refused.passes


def test_a_score_in_doubt_is_not_believed_whatever_the_others_say() -> None:
    told = assessed((*seen(-8.0, -4.0, 4.0), at(0.0, 9.9, FINE, QualityFlag.UNFAMILIAR)), RULES)
    assert told.passes
    assert not told.trusted


def test_a_good_exposure_is_kept_once_the_focus_is_known_and_not_before() -> None:
    knobs = (Axis.BRIGHTNESS, Axis.CONTRAST)
    near = seen(-8.0, -3.0, -1.5)
    kept = decided((*near, at(0.0, 8.8)), (0.1, 0.2, -0.2))
    assert kept.status is Status.ADJUST
    assert kept.deltas[Axis.WD] != 0.0
    assert [kept.deltas[axis] for axis in knobs] == [0.0, 0.0]
    mended = decided((*near, at(0.0, 8.8, DARK)), (0.1, 0.2, -0.2))
    assert all(mended.deltas[axis] != 0.0 for axis in knobs)
    looking = decided((at(0.0, 4.0),), (0.1, 0.2, -0.2))
    assert all(looking.deltas[axis] != 0.0 for axis in knobs)


def test_a_field_with_nothing_to_focus_on_is_left_as_found_by_its_own_scores_not_the_fitted_ones() -> None:
    # They say that the focus is far above; the fit believes it of the last frame as well, which looks no better.
    first = at(0.0, 1.0, FINE, QualityFlag.UNFAMILIAR)
    way = tuple(at(place, quality(place - 26.0)) for place in np.linspace(2.0, 13.0, RULES.constants.barren_steps - 2))
    last = at(25.5, 3.95)
    assert last.measurement is not None
    frames = (first, *way, replace(last, measurement=replace(last.measurement, sigma=2.5)))
    assert max(each.score for each in assessed(frames).measured) < 1.0 + RULES.constants.flag_points
    assert max(each.score for each in assessed(frames).judged) > 1.0 + RULES.constants.flag_points
    decision = decided(frames)
    assert (decision.status, decision.reason) == (Status.GIVE_UP, Reason.NOTHING_TO_FOCUS_ON)
    assert decision.targets[Axis.WD] == pytest.approx(START_MM)


def play(focus_units: float, bias: float, actor_units: float, seed: int) -> tuple[Run, list[Observation]]:
    """A run on an instrument that follows the scale; near focus its scores are off by `bias`."""
    rng = np.random.default_rng(seed)
    run: Run | None = None
    shown: list[Observation] = []
    wd_mm = START_MM
    for _ in range(RULES.max_steps):
        off = (wd_mm - START_MM) / UNIT_MM - focus_units
        error = bias * np.exp(-abs(off)) + 0.15 * rng.standard_normal()
        shown.append(frame(wd_mm, float(np.clip(quality(off) + error, 0.0, 10.0))))
        step = actor_units / (RULES.optics.window / 2.0) if RULES.optics is not None else 0.0
        decision = decide(run, shown[-1], RULES, lambda _, step=step: np.array([step, 0.0, 0.0], np.float32))
        run = advance(run, shown[-1], decision)
        wd_mm = decision.targets[Axis.WD]
        if decision.status.is_terminal:
            return run, shown
    raise AssertionError("the run has no end")


@pytest.mark.parametrize("bias", [-0.9, -0.4, 0.0, 0.5])
@pytest.mark.parametrize("focus_units", [-14.0, -3.0, 0.5, 9.0])
def test_a_run_ends_in_focus_and_says_so_although_the_field_is_scored_wrongly(focus_units: float, bias: float) -> None:
    for seed in range(5):
        run, shown = play(focus_units, bias, 4.0 if focus_units > 0 else -4.0, seed)
        off = (shown[-1].parameters.wd_mm - START_MM) / UNIT_MM - focus_units
        assert run.status is Status.DONE, (seed, off)
        assert quality(off) > 9.0, (seed, off)
        assert len(shown) <= 16


def test_after_done_its_own_low_score_starts_no_new_run() -> None:
    run, shown = play(-3.0, -0.9, -4.0, 1)
    again = decide(run, shown[-1], RULES, lambda _: np.zeros(3, np.float32))
    assert (again.status, again.reason) == (Status.DONE, Reason.ALREADY_ENDED)
    lower = frame(shown[-1].parameters.wd_mm, shown[-1].measurement.score - 0.9 if shown[-1].measurement else 0.0)
    assert not decide(run, lower, RULES, lambda _: np.zeros(3, np.float32)).starts_run


def test_the_decision_tells_the_score_that_the_run_believes() -> None:
    told = assessed((at(0.0, 9.9),))
    decision = decide(None, at(0.0, 9.9), RULES, lambda _: np.zeros(3, np.float32))
    assert decision.score == told.score
    damaged = Observation("frame", Parameters(500.0, 10.0, 50.0, 50.0), None)
    assert decide(None, damaged, RULES, lambda _: np.zeros(3, np.float32)).score is None
