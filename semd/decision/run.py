"""The run's state machine: one decision per frame, from the frames of the run alone (protocol, sections 2 and 4).

`decide` answers a frame, `advance` remembers the answer. Both are pure: a run can be rebuilt by advancing over
its recorded frames and decisions, which is how the daemon goes on after a restart and how replay works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from semd.decision.assessment import Insight, insight
from semd.decision.criteria import (
    best_frame,
    is_barren,
    is_blank,
    is_doubted,
    is_exposed,
    score_of,
    stays_in_focus,
    steps_without_gain,
)
from semd.decision.read_back import differs, field_changed
from semd.decision.rules import RunRules
from semd.domain.axes import AXES, Axis, Parameters
from semd.domain.limits import Window, control_window
from semd.domain.observation import Observation
from semd.domain.reward import reward
from semd.domain.state import frame_features, stack_state
from semd.protocol.action import Status, round_target

Policy = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""The actor: state (10 N,) -> steps of the three axes on the networks' scale, (3,)."""


class Reason(StrEnum):
    """Why a frame got the answer it got; one word to grep for."""

    MOVING = "moving"
    PASSED = "score-passed"
    DOUBTFUL = "score-doubtful"
    IMAGE_DAMAGED = "image-damaged"
    IMAGE_BLANK = "image-blank"
    READ_BACK = "read-back-differs"
    RETURNING = "returning-to-the-best"
    NO_BETTER = "nothing-better-found"
    STEPS_SPENT = "steps-spent"
    NOTHING_TO_FOCUS_ON = "nothing-to-focus-on"
    HOLDS_SPENT = "holds-spent"
    ALREADY_ENDED = "already-ended"
    CALIBRATING = "calibrating"


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one frame.

    Attributes:
        status: what the microscope is asked to do.
        reason: why.
        targets: absolute targets of the controlled axes, rounded as the action file carries them.
        deltas: target less value read, rounded likewise.
        reward: equation (6), None for the first frame of a run.
        step: 0.. within the run.
        starts_run: whether this frame is the first of a new run.
        restarts_next: whether the operator took over, so that the next frame starts a new run.
        score: the frame's score as the run judges it: the scoring machine's, corrected by what the run's other frames
            tell of the focus. None where the scoring machine's stands: without an image, in a calibration, and in
            ledgers of earlier versions.
    """

    status: Status
    reason: Reason
    targets: Mapping[Axis, float]
    deltas: Mapping[Axis, float]
    reward: float | None
    step: int
    starts_run: bool
    restarts_next: bool
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """The frames of the present run and how the last of them was answered.

    Attributes:
        frames: frames with a measurement, oldest first.
        start: parameters of the run's first frame.
        last: the last frame's parameters, measured or not.
        targets: what was last asked for.
        status: how the last frame was answered.
        steps: frames answered in this run.
        holds: HOLDs in a row, across runs.
        restarts_next: the next frame starts a new run.
    """

    frames: tuple[Observation, ...]
    start: Parameters
    last: Parameters
    targets: Mapping[Axis, float]
    status: Status
    steps: int
    holds: int
    restarts_next: bool


def decide(run: Run | None, frame: Observation, rules: RunRules, policy: Policy) -> Decision:
    """Answer `frame`, given the run so far.

    Args:
        run: the run so far, or None when there is none.
        frame: the new frame.
        rules: thresholds and budgets.
        policy: the actor. Its output is bounded here, whatever it is.
    """
    holds = run.holds if run is not None else 0
    alone = Insight((frame,), (frame,), None)
    if run is not None and field_changed(run.last, frame.parameters, rules):
        run = None
    if run is not None and differs(run.targets, frame.parameters, rules):
        return _hold(run, alone, rules, Reason.READ_BACK, holds, restarts_next=True)
    if run is not None and (run.restarts_next or _has_fallen(run, frame, rules)):
        run = None
    if frame.measurement is None:
        return _hold(run, alone, rules, Reason.IMAGE_DAMAGED, holds)
    told = insight((*(run.frames if run is not None else ()), frame), rules)
    may_pass = told.may_pass(rules)
    is_good = may_pass and told.is_sure(rules) and not told.owes_start_a_look(rules) and not told.prefers_start(rules)
    if run is not None and run.status.is_terminal:
        return _stay(run, told, rules, Status.DONE if is_good else run.status, Reason.ALREADY_ENDED)
    if is_good:
        return _stay(run, told, rules, Status.DONE, Reason.PASSED)
    if may_pass and is_doubted(told.measured[-1]):
        # Good, if it can be believed: another scan of the same settings tells. If none does, it is left to the
        # operator as it stands.
        if holds >= rules.max_holds:
            return _stay(run, told, rules, Status.GIVE_UP, Reason.DOUBTFUL)
        return _hold(run, told, rules, Reason.DOUBTFUL, holds)
    if is_blank(frame, rules):
        return _hold(run, told, rules, Reason.IMAGE_BLANK, holds)
    return _search(run, told, rules, policy)


def advance(run: Run | None, frame: Observation, decision: Decision) -> Run:
    """Remember how `frame` was answered."""
    if run is None or decision.starts_run:
        run = Run(
            frames=(),
            start=frame.parameters,
            last=frame.parameters,
            targets={},
            status=decision.status,
            steps=0,
            holds=run.holds if run is not None else 0,
            restarts_next=False,
        )
    measured = frame.measurement is not None and decision.reason is not Reason.READ_BACK
    return replace(
        run,
        frames=(*run.frames, frame) if measured else run.frames,
        last=frame.parameters,
        targets=decision.targets,
        status=decision.status,
        steps=decision.step + 1,
        holds=run.holds + 1 if decision.status is Status.HOLD else 0,
        restarts_next=decision.restarts_next,
    )


def run_window(start: Parameters, rules: RunRules) -> Window:
    """The window of the run that began with `start`."""
    return control_window(rules.limits, rules.optics, start.wd_mm, start.magnification, start.pixel_nm)


def run_state(frames: tuple[Observation, ...], start: Parameters, rules: RunRules) -> NDArray[np.float32]:
    """Equations (2) and (3) over the measured frames of a run; shape (10 N,), float32."""
    window = run_window(start, rules)
    # One frame more than N gives the oldest of them the step that led to it.
    recent = frames[-(rules.n_frames + 1) :]
    rows = [
        frame_features(
            seen.parameters,
            seen.measurement,
            recent[index - 1].parameters if index else None,
            window,
            rules.rho,
            rules.axes,
        )
        for index, seen in enumerate(recent)
        if seen.measurement is not None
    ]
    return stack_state(rows[-rules.n_frames :], rules.n_frames)


def _search(run: Run | None, told: Insight, rules: RunRules, policy: Policy) -> Decision:
    """Answer a frame that is not good enough: go on, go back to the best, or give up there."""
    step = run.steps if run is not None else 0
    best = best_frame(told.frames, rules)
    if step + 1 >= rules.max_steps:
        return _end_at(best, run, told, rules, Reason.STEPS_SPENT)
    if len(told.measured) >= rules.barren_steps and is_barren(told.measured, rules):
        # Its scores are in doubt, all of them: unless one stands far out, the field is left as it was found.
        start, best = told.measured[0], best_frame(told.measured, rules)
        stands_out = score_of(best) > score_of(start) + rules.doubt_points
        return _end_at(best if stands_out else start, run, told, rules, Reason.NOTHING_TO_FOCUS_ON)
    targets = best.parameters.controlled(rules.axes)
    is_there = not differs(targets, told.now.parameters, rules)
    idle_steps = steps_without_gain(told.measured, rules)
    if is_there and idle_steps >= rules.patience_steps:
        return _end_at(best, run, told, rules, Reason.NO_BETTER)
    is_due = told.is_worth_confirming(best, rules) and idle_steps >= rules.doubt_steps
    if not is_there and (is_due or idle_steps >= rules.patience_steps or step + 2 >= rules.max_steps):
        return _decision(run, told, rules, Status.ADJUST, Reason.RETURNING, targets)
    return _adjust(run, told, rules, policy)


def _adjust(run: Run | None, told: Insight, rules: RunRules, policy: Policy) -> Decision:
    start = run.start if run is not None else told.now.parameters
    window = run_window(start, rules)
    steps = policy(run_state(told.measured, start, rules))
    now = told.now.parameters.controlled(rules.axes)
    deltas = {axis: float(steps[AXES.index(axis)]) for axis in now}
    if Axis.WD in now:
        if stays_in_focus(told.measured[-1], rules):
            # The exposure alone is still to be mended.
            deltas[Axis.WD] = 0.0
        actor_mm = now[Axis.WD] + window.step(Axis.WD, deltas[Axis.WD], rules.rho)
        deltas[Axis.WD] = (told.next_wd_mm(actor_mm, rules) - now[Axis.WD]) / window.half_width[Axis.WD]
    if told.knows_focus(rules) and is_exposed(told.now, rules):
        # A good exposure is kept then: the actor, which still looks for the focus, might walk out of it again.
        deltas |= {axis: 0.0 for axis in now if axis is not Axis.WD}
    # Equation (4): p' = clamp(p + delta, L, U), delta bounded by (5), whoever asks for it.
    targets = {
        axis: rules.limits[axis].clamp(now[axis] + window.step(axis, delta, rules.rho))
        for axis, delta in deltas.items()
    }
    return _decision(run, told, rules, Status.ADJUST, Reason.MOVING, targets)


def _end_at(best: Observation, run: Run | None, told: Insight, rules: RunRules, reason: Reason) -> Decision:
    return _decision(run, told, rules, Status.GIVE_UP, reason, best.parameters.controlled(rules.axes))


def _hold(
    run: Run | None, told: Insight, rules: RunRules, reason: Reason, holds: int, *, restarts_next: bool = False
) -> Decision:
    if holds >= rules.max_holds:
        # An operator who keeps turning the knobs wins: nothing is moved back then.
        best = told.now
        if run is not None and run.frames and not restarts_next:
            best = best_frame(insight(run.frames, rules).frames, rules)
        decision = _end_at(best, run, told, rules, Reason.HOLDS_SPENT)
    else:
        decision = _stay(run, told, rules, Status.HOLD, reason)
    return replace(decision, restarts_next=restarts_next)


def _stay(run: Run | None, told: Insight, rules: RunRules, status: Status, reason: Reason) -> Decision:
    return _decision(run, told, rules, status, reason, told.now.parameters.controlled(rules.axes))


def _decision(
    run: Run | None,
    told: Insight,
    rules: RunRules,
    status: Status,
    reason: Reason,
    targets: Mapping[Axis, float],
) -> Decision:
    frame = told.measured[-1]
    now = frame.parameters.controlled(rules.axes)
    rounded = {axis: round_target(axis, target) for axis, target in targets.items()}
    gained = None
    if run is not None:
        gained = reward(frame.measurement, rules.weights, rules.exposure) if frame.measurement else 0.0
    return Decision(
        status=status,
        reason=reason,
        targets=rounded,
        deltas={axis: round_target(axis, target - now[axis]) for axis, target in rounded.items()},
        reward=gained,
        step=run.steps if run is not None else 0,
        starts_run=run is None,
        restarts_next=False,
        score=told.now.measurement.score if told.now.measurement is not None else None,
    )


def _has_fallen(run: Run, frame: Observation, rules: RunRules) -> bool:
    """Whether the score has fallen after the end of a run so far that a new one is due.

    The threshold is the mark, or the best that the scoring machine itself had seen in the run: a field that it never
    let pass cannot fall below the threshold.
    """
    if not run.status.is_terminal or frame.measurement is None:
        return False
    best = max((score_of(seen) for seen in run.frames), default=rules.accept_score)
    return frame.measurement.score < min(rules.accept_score, best) - rules.restart_margin
