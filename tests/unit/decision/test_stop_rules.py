"""The run's state machine, rule by rule: what each frame is answered with, and what is remembered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from semd.decision.decide import decide
from semd.decision.judged_frame import best_frame, judge_frames
from semd.decision.rules import RunRules
from semd.decision.run import Decision, Reason, Run, advance, run_state, run_window
from semd.domain.axes import Axis, Parameters
from semd.domain.exposure import Exposure
from semd.domain.features import Features
from semd.domain.frame_score import QualityFlag
from semd.domain.limits import Optics
from semd.domain.observation import Measurement, Observation
from semd.protocol.action import Status

FEATURES = Features(avg=120.0, grd=1000.0, var=900.0, pixels=100)
FINE = Exposure(0.0, 0.0, 120.0, 150.0)
BLACK = Exposure(1.0, 0.0, 0.0, 0.0)
FLAT_GREY = Exposure(0.0, 0.0, 120.0, 0.0)
DARK = Exposure(0.2, 0.0, 50.0, 60.0)
# The rules for scores that stand alone; `test_assessment.py` has those for frames judged together.
RULES = RunRules(fits_focus=False)
UNIT_MM = Optics().focus_unit_mm(1000.0)


def at(
    score: float | None,
    wd_mm: float = 10.0,
    brightness: float = 50.0,
    contrast: float = 50.0,
    exposure: Exposure = FINE,
    flags: tuple[QualityFlag, ...] = (),
    sigma: float = 0.3,
    **other: object,
) -> Observation:
    parameters = Parameters(1000.0, wd_mm, brightness, contrast)
    measurement = None if score is None else Measurement(score, FEATURES, exposure, sigma, flags)
    return Observation("frame", replace(parameters, **other), measurement)


def always(*steps: float):
    return lambda state: np.array(steps, np.float32)


REST = always(0.0, 0.0, 0.0)


def best_of(frames: tuple[Observation, ...], rules: RunRules) -> Observation:
    return frames[best_frame(judge_frames(frames, rules), rules)]


def play(frames: list[Observation], rules: RunRules = RULES, policy=REST) -> tuple[Run, Decision]:
    """Answer the frames one after another; returns the run and the last decision."""
    run, decision = None, None
    for frame in frames:
        decision = decide(run, frame, rules, policy)
        run = advance(run, frame, decision)
    assert run is not None
    assert decision is not None
    return run, decision


def test_a_first_frame_is_answered_with_a_bounded_step() -> None:
    decision = decide(None, at(5.0), RULES, always(0.2, -0.1, 9.0))
    assert (decision.status, decision.reason) == (Status.ADJUST, Reason.MOVING)
    assert decision.starts_run
    assert decision.reward is None
    assert decision.step == 0
    # 0.2 of half a window of 60 units; -0.1 of 50; 9 is cut to 2 rho = 0.4 of 50
    assert decision.targets[Axis.WD] == pytest.approx(10.0 + 0.2 * 30 * UNIT_MM, abs=5e-5)
    assert decision.targets[Axis.BRIGHTNESS] == 45.0
    assert decision.targets[Axis.CONTRAST] == 70.0
    assert decision.deltas[Axis.CONTRAST] == 20.0


def test_targets_stop_at_the_limits() -> None:
    decision = decide(None, at(5.0, brightness=95.0, contrast=3.0), RULES, always(0.0, 0.4, -0.4))
    assert decision.targets[Axis.BRIGHTNESS] == 100.0
    assert decision.targets[Axis.CONTRAST] == 0.0


def test_a_policy_that_says_nan_moves_nothing() -> None:
    decision = decide(None, at(5.0), RULES, always(float("nan"), float("nan"), float("nan")))
    assert set(decision.deltas.values()) == {0.0}


def test_the_second_frame_has_a_reward_and_the_next_step_number() -> None:
    run, decision = play([at(5.0), at(6.0)])
    grd, var = FEATURES.grd_normalised, FEATURES.var_normalised
    assert decision.reward == pytest.approx(6.0 + 0.5 * grd + 1.0 * var)
    assert decision.step == 1
    assert not decision.starts_run
    assert (run.steps, len(run.frames)) == (2, 2)


@pytest.mark.parametrize(
    ("frame", "status"),
    [
        (at(9.01, sigma=0.0), Status.DONE),
        (at(9.0, sigma=0.0), Status.ADJUST),  # above omega, not at it
        (at(9.9, exposure=DARK), Status.ADJUST),  # sharp but badly exposed
    ],
)
def test_done_asks_for_score_and_exposure(frame: Observation, status: Status) -> None:
    decision = decide(None, frame, RULES, REST)
    assert decision.status is status
    if status is Status.DONE:
        assert decision.targets == {Axis.WD: 10.0, Axis.BRIGHTNESS: 50.0, Axis.CONTRAST: 50.0}
        assert set(decision.deltas.values()) == {0.0}


def test_a_score_that_passes_by_less_than_its_error_is_bettered_or_confirmed() -> None:
    assert decide(None, at(9.61), RULES, REST).status is Status.DONE  # 9.61 - 2 * 0.3 is above 9
    run, decision = play([at(9.2)])  # 9.2 - 0.6 is not: a surer one is looked for
    assert (decision.status, decision.reason) == (Status.ADJUST, Reason.MOVING)
    # The actor rests, so the next frame is another scan of the same settings: their mean decides.
    for second, status in ((9.1, Status.DONE), (8.9, Status.ADJUST), (9.4, Status.DONE)):
        assert decide(run, at(second), RULES, REST).status is status
    # Three scans of the same settings, mean 8.82: what they have told counts more than the last.
    run, _ = play([at(8.7), at(8.7), at(9.05)])
    assert run.status is Status.ADJUST


def test_a_best_that_may_pass_is_soon_looked_at_again() -> None:
    run, wd_mm, answers = None, 10.0, []
    for score in (7.0, 9.2, 9.0, 8.0, 9.1):
        frame = at(score, wd_mm=wd_mm)
        decision = decide(run, frame, RULES, always(0.02, 0.0, 0.0))
        run = advance(run, frame, decision)
        wd_mm = decision.targets[Axis.WD]
        answers.append((decision.reason, wd_mm))
    assert [reason for reason, _ in answers] == [
        Reason.MOVING, Reason.MOVING, Reason.MOVING, Reason.RETURNING, Reason.PASSED
    ]  # fmt: skip
    assert answers[3][1] == answers[0][1]


def test_what_is_surely_in_focus_stays_so_while_the_exposure_is_mended() -> None:
    decision = decide(None, at(9.9, exposure=DARK), RULES, always(0.2, 0.2, 0.2))
    assert decision.deltas == {Axis.WD: 0.0, Axis.BRIGHTNESS: 10.0, Axis.CONTRAST: 10.0}
    for score in (9.1, 8.75):  # 0.3 either way, it may pass
        unsure = decide(None, at(score, exposure=DARK), RULES, always(0.2, 0.2, 0.2))
        assert unsure.deltas[Axis.WD] == 0.0
        assert unsure.deltas[Axis.BRIGHTNESS] > 0.0
    for mended in (at(8.65, exposure=DARK), at(8.75), at(9.1)):
        assert decide(None, mended, RULES, always(0.2, 0.2, 0.2)).deltas[Axis.WD] > 0.0


def test_a_working_distance_that_is_not_ours_is_left_alone_when_the_focus_is_sure() -> None:
    decision = decide(None, at(9.9, exposure=DARK), replace(RULES, axes=(Axis.BRIGHTNESS,)), always(0.2, 0.2, 0.2))
    assert (decision.status, decision.deltas) == (Status.ADJUST, {Axis.BRIGHTNESS: 10.0})


def test_sigmas_of_none_believe_every_score() -> None:
    assert decide(None, at(9.01), replace(RULES, sure_sigmas=0.0), REST).status is Status.DONE


def test_a_run_that_finds_nothing_better_goes_back_to_the_best_and_looks_once_more() -> None:
    rules = replace(RULES, axes=(Axis.WD,), patience_steps=3)
    run, decision, wd_mm = None, None, 10.0
    answers = []
    for score in (5.0, 8.4, 6.0, 6.5, 6.2, 8.4):
        frame = at(score, wd_mm=wd_mm)
        decision = decide(run, frame, rules, always(0.02, 0.0, 0.0))
        run = advance(run, frame, decision)
        wd_mm = decision.targets[Axis.WD]
        answers.append((decision.reason, wd_mm))
    best_mm = answers[0][1]
    assert [reason for reason, _ in answers[:5]] == [Reason.MOVING] * 4 + [Reason.RETURNING]
    assert answers[4][1] == best_mm
    assert (decision.status, answers[5]) == (Status.GIVE_UP, (Reason.NO_BETTER, best_mm))


def test_the_best_is_looked_at_again_before_the_steps_are_spent() -> None:
    rules = replace(RULES, axes=(Axis.WD,), max_steps=4)
    run, wd_mm, seen = None, 10.0, []
    for score in (5.0, 7.0, 6.0, 9.7):
        frame = at(score, wd_mm=wd_mm)
        decision = decide(run, frame, rules, always(0.02, 0.0, 0.0))
        run = advance(run, frame, decision)
        wd_mm = decision.targets[Axis.WD]
        seen.append((decision.status, decision.reason))
    assert seen[2:] == [(Status.ADJUST, Reason.RETURNING), (Status.DONE, Reason.PASSED)]


def test_done_does_not_ask_for_an_exposure_it_cannot_mend() -> None:
    wd_only = replace(RULES, axes=(Axis.WD,))
    decision = decide(None, at(9.7, exposure=DARK), wd_only, REST)
    assert decision.status is Status.DONE
    assert set(decision.targets) == {Axis.WD}


STRIPED = (QualityFlag.STRIPED,)


def test_a_score_in_doubt_never_ends_a_run_well() -> None:
    good = at(9.8, flags=STRIPED)
    decision = decide(None, good, RULES, REST)
    assert (decision.status, decision.reason) == (Status.HOLD, Reason.DOUBTFUL)
    run, decision = play([good] * (RULES.constants.max_holds + 1))
    assert (decision.status, decision.reason) == (Status.GIVE_UP, Reason.DOUBTFUL)
    # It is left as it stands: what the operator makes of it is better than going back.
    assert set(decision.deltas.values()) == {0.0}
    # Nor after the end of the run, as long as the doubt lasts.
    assert decide(run, good, RULES, REST).status is Status.GIVE_UP
    assert decide(run, at(9.8), RULES, REST).status is Status.DONE


def test_a_poor_score_in_doubt_does_not_stop_the_search() -> None:
    decision = decide(None, at(4.0, flags=(QualityFlag.SATURATED,)), RULES, always(0.1, 0.0, 0.0))
    assert decision.status is Status.ADJUST


def test_the_best_frame_is_one_that_can_be_trusted() -> None:
    doubted, trusted, poor = at(8.9, 1.0, flags=STRIPED), at(6.0, 2.0), at(5.8, 2.0)
    assert best_of((doubted, trusted), RULES) is trusted  # 8.9 less 3 for the doubt
    assert best_of((doubted, poor), RULES) is doubted
    assert best_of((doubted,), RULES) is doubted


def test_the_last_step_of_the_budget_goes_back_to_the_best_frame() -> None:
    rules = replace(RULES, max_steps=3)
    policy = always(0.1, 0.0, 0.0)
    run, frames, decision = None, [], None
    for score in (4.0, 7.0, 5.0):
        wd_mm = run.targets[Axis.WD] if run is not None else 10.0
        frames.append(at(score, wd_mm))
        decision = decide(run, frames[-1], rules, policy)
        run = advance(run, frames[-1], decision)
    assert decision is not None
    assert (decision.status, decision.reason) == (Status.GIVE_UP, Reason.STEPS_SPENT)
    assert decision.targets[Axis.WD] == frames[1].parameters.wd_mm


@pytest.mark.parametrize("score", [0.4, 4.9])
def test_nothing_promising_gives_up_early(score: float) -> None:
    rules = replace(
        RULES, constants=replace(RULES.constants, lost_steps=RULES.constants.barren_steps)
    )  # the frames stay where they are
    _, decision = play([at(score)] * RULES.constants.barren_steps, rules)
    assert (decision.status, decision.reason) == (Status.GIVE_UP, Reason.NOTHING_TO_FOCUS_ON)
    _, decision = play([*[at(score)] * (RULES.constants.barren_steps - 1), at(8.2)], rules)
    # It says 0.3 of its error, as next to nothing does whose score can be relied on: 1.5 times 0.83 are reckoned with.
    assert decision.reason is Reason.NOTHING_TO_FOCUS_ON
    _, decision = play([*[at(score)] * (RULES.constants.barren_steps - 1), at(8.3)], rules)
    assert decision.status is Status.ADJUST


@pytest.mark.parametrize(("best", "is_kept"), [(3.9, False), (4.9, True)])
def test_a_field_with_nothing_to_focus_on_is_left_as_found_unless_a_score_stands_far_out(
    best: float, is_kept: bool
) -> None:
    scores = [1.5, *[1.0] * (RULES.constants.barren_steps - 3), best, 1.0]
    run, decision = None, None
    for place, score in enumerate(scores):
        seen = at(score, 10.0 + 0.4 * place)
        decision = decide(None if run is None else replace(run, targets={}), seen, RULES, always(0.1, 0.0, 0.0))
        run = advance(run, seen, decision)
    assert decision is not None
    assert decision.reason is Reason.NOTHING_TO_FOCUS_ON
    assert decision.targets[Axis.WD] == pytest.approx(10.0 + (0.4 * (len(scores) - 2) if is_kept else 0.0))


def test_best_frame_weighs_the_exposure_and_keeps_the_earliest_of_equals() -> None:
    start, dark, fine, later = at(3.0, exposure=DARK), at(9.2, 1.0, exposure=DARK), at(8.0, 2.0), at(8.0, 3.0)
    # DARK: 4 * 0.16 + 10 / 60 + 30 / 90 = 1.14, twice that off 9.2
    assert best_of((start, dark, fine, later), RULES) is fine
    assert best_of((start, dark, fine), replace(RULES, axes=(Axis.WD,))) is dark


def test_only_what_is_surely_better_than_the_start_is_returned_to() -> None:
    start = at(7.0, 1.0)
    assert best_of((start, at(7.25, 2.0)), RULES) is start  # 7.25 - 0.3 is below 7
    assert best_of((start, better := at(7.35, 2.0)), RULES) is better
    assert best_of((start, at(9.0, 2.0, exposure=DARK)), RULES) is start
    assert best_of((at(9.2, 1.0, exposure=DARK), at(8.0, 2.0)), RULES).parameters.wd_mm == 1.0


def test_a_well_exposed_frame_that_is_as_sharp_but_for_its_error_is_better_than_a_dark_start() -> None:
    dark = at(9.5, 1.0, exposure=DARK)
    assert best_of((dark, mended := at(9.25, 2.0)), RULES) is mended  # 9.25 + 0.3 is above 9.5
    assert best_of((dark, at(9.15, 2.0)), RULES) is dark
    assert best_of((at(9.5, 1.0), at(9.4, 2.0)), RULES).parameters.wd_mm == 1.0
    assert best_of((dark, at(9.25, 2.0)), replace(RULES, axes=(Axis.WD,))) is dark


@pytest.mark.parametrize(
    ("frame", "reason"),
    [(at(None), Reason.IMAGE_DAMAGED), (at(0.0, exposure=FLAT_GREY), Reason.IMAGE_BLANK)],
)
def test_a_frame_that_cannot_be_used_is_held_at_most_three_times(frame: Observation, reason: Reason) -> None:
    run, decision = play([at(5.0), frame])
    assert (decision.status, decision.reason) == (Status.HOLD, reason)
    assert decision.targets[Axis.WD] == 10.0
    run, decision = play([at(5.0), frame, frame, frame])
    assert decision.status is Status.HOLD
    assert run.holds == 3
    run, decision = play([at(5.0), frame, frame, frame, frame])
    assert (decision.status, decision.reason) == (Status.GIVE_UP, Reason.HOLDS_SPENT)


def test_a_good_frame_ends_the_count_of_holds() -> None:
    run, decision = play([at(5.0), at(None), at(None), at(None), at(5.0), at(None)])
    assert decision.status is Status.HOLD
    assert run.holds == 1
    assert len(run.frames) == 2


def test_a_black_frame_is_not_blank_while_a_knob_may_explain_it() -> None:
    assert decide(None, at(0.0, exposure=BLACK), RULES, REST).status is Status.ADJUST
    wd_only = replace(RULES, axes=(Axis.WD,))
    assert decide(None, at(0.0, exposure=BLACK), wd_only, REST).status is Status.HOLD


def test_an_operator_at_the_knobs_is_held_and_then_a_new_run_starts() -> None:
    run, decision = play([at(5.0), at(5.0, brightness=60.0)])
    assert (decision.status, decision.reason) == (Status.HOLD, Reason.READ_BACK)
    assert decision.targets[Axis.BRIGHTNESS] == 60.0
    assert decision.restarts_next
    assert len(run.frames) == 1
    run, decision = play([at(5.0), at(5.0, brightness=60.0), at(5.0, brightness=60.0)])
    assert decision.starts_run
    assert (decision.status, decision.step) == (Status.ADJUST, 0)
    assert run.start.brightness == 60.0


@pytest.mark.parametrize(("off_mm", "status"), [(0.0019, Status.ADJUST), (0.0021, Status.HOLD)])
def test_read_back_tolerance(off_mm: float, status: Status) -> None:
    _, decision = play([at(5.0), at(5.0, wd_mm=10.0 + off_mm)])
    assert decision.status is status


def test_an_operator_who_keeps_turning_wins_and_nothing_is_moved_back() -> None:
    frames = [at(5.0)] + [at(5.0, brightness=50.0 + 5 * turn) for turn in range(1, 5)]
    _, decision = play(frames)
    assert (decision.status, decision.reason) == (Status.GIVE_UP, Reason.HOLDS_SPENT)
    assert decision.targets[Axis.BRIGHTNESS] == 70.0


@pytest.mark.parametrize(
    ("change", "starts"),
    [
        ({"magnification": 2000.0}, True),
        ({"sample": "grid"}, True),
        ({"stage_mm": (1.0, 2.0)}, True),  # a stage that was not written before
        ({}, False),
    ],
)
def test_another_field_starts_a_new_run(change: dict[str, object], starts: bool) -> None:
    run, _ = play([at(5.0)])
    assert decide(run, at(5.0, **change), RULES, REST).starts_run is starts


@pytest.mark.parametrize(("moved_mm", "starts"), [(0.126, False), (0.128, True)])
def test_a_stage_move_beyond_a_field_of_view_starts_a_new_run(moved_mm: float, starts: bool) -> None:
    run, _ = play([at(5.0, stage_mm=(1.0, 1.0))])  # a field is 127 mm / 1000 wide
    assert decide(run, at(5.0, stage_mm=(1.0 + moved_mm, 1.0)), RULES, REST).starts_run is starts


@pytest.mark.parametrize(("score", "starts"), [(9.5, False), (8.01, False), (7.99, True)])
def test_after_done_only_a_fall_below_the_margin_starts_a_new_run(score: float, starts: bool) -> None:
    run, _ = play([at(9.7)])
    decision = decide(run, at(score), RULES, REST)
    assert decision.starts_run is starts
    assert decision.status is (Status.ADJUST if starts else Status.DONE)


def test_after_giving_up_the_run_is_not_taken_up_again_by_itself() -> None:
    rules = replace(RULES, max_steps=2)
    run, decision = play([at(5.0), at(5.0)], rules)
    assert decision.status is Status.GIVE_UP
    assert decide(run, at(5.0), rules, REST).reason is Reason.ALREADY_ENDED
    assert decide(run, at(9.7), rules, REST).status is Status.DONE
    assert decide(run, at(3.9), rules, REST).starts_run


def test_the_state_holds_the_step_that_led_to_the_oldest_frame() -> None:
    rules = replace(RULES, n_frames=2)
    frames = tuple(at(5.0, brightness=brightness) for brightness in (50.0, 58.0, 62.0, 72.0))
    state = run_state(frames, run_window(frames[0].parameters, rules), rules).reshape(2, 10)
    assert state[:, 5] == pytest.approx([0.24, 0.44])  # (62 - 50) / 50, (72 - 50) / 50
    assert state[:, 8] == pytest.approx([0.2, 0.5])  # 4 and 10 of rho (U - L) = 20


def test_the_same_frames_give_the_same_run() -> None:
    frames = [at(5.0), at(None), at(6.0), at(0.0, exposure=FLAT_GREY), at(9.3)]
    assert play(frames) == play(frames)
