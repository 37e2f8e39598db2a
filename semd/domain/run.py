"""The run's state machine: one decision per frame, from the frames of the run alone (protocol, sections 2 and 4).

`decide` answers a frame, `advance` remembers the answer. Both are pure: a run can be rebuilt by advancing over
its recorded frames and decisions, which is how the daemon goes on after a restart and how replay works.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from semd.domain.action import Status, round_target
from semd.domain.axes import AXES, Axis, Parameters
from semd.domain.limits import FRAME_WIDTH_PX, Window, control_window
from semd.domain.observation import Measurement, Observation
from semd.domain.reward import reward
from semd.domain.rules import RunRules
from semd.domain.state import frame_features, stack_state

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
    """

    status: Status
    reason: Reason
    targets: Mapping[Axis, float]
    deltas: Mapping[Axis, float]
    reward: float | None
    step: int
    starts_run: bool
    restarts_next: bool


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
    if run is not None and not field_changed(run.last, frame.parameters, rules):
        if differs(run.targets, frame.parameters, rules):
            return _hold(run, frame, rules, Reason.READ_BACK, holds, restarts_next=True)
        if run.restarts_next or _has_fallen(run, frame, rules):
            run = None
    else:
        run = None
    if frame.measurement is None:
        return _hold(run, frame, rules, Reason.IMAGE_DAMAGED, holds)
    if run is not None and run.status.is_terminal:
        is_good = _passes(frame.measurement, rules) and not frame.measurement.doubts
        status = Status.DONE if is_good else run.status
        return _stay(run, frame, rules, status, Reason.ALREADY_ENDED)
    if _passes(frame.measurement, rules):
        if frame.measurement.doubts:
            # Good, if it can be believed: another scan of the same settings tells. If none does, it is left to the
            # operator as it stands.
            if holds >= rules.max_holds:
                return _stay(run, frame, rules, Status.GIVE_UP, Reason.DOUBTFUL)
            return _hold(run, frame, rules, Reason.DOUBTFUL, holds)
        if _is_confirmed(run, frame, frame.measurement, rules):
            return _stay(run, frame, rules, Status.DONE, Reason.PASSED)
    if _is_blank(frame, rules):
        return _hold(run, frame, rules, Reason.IMAGE_BLANK, holds)
    return _search(run, frame, rules, policy)


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


def best_frame(frames: tuple[Observation, ...], rules: RunRules) -> Observation:
    """The frame to return to: the highest score less the exposure's defect; the earliest of equals.

    The run must not end worse than it began. So beside the first frame only those count that are surely better than
    it: their score by more than its error, and their exposure no worse. A score in doubt counts only where all are.
    """
    start = frames[0]
    sure = [seen for seen in frames if seen is start or _is_surely_better(seen, start, rules)]
    return max(sure, key=lambda seen: (not _is_doubted(seen), _merit(seen, rules)))


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


def _is_confirmed(run: Run | None, frame: Observation, measurement: Measurement, rules: RunRules) -> bool:
    """Whether a score that passes can be believed: by its own error, or because another scan has said the same."""
    if _is_sure(measurement, rules):
        return True
    scans = _scans_at(frame, (*(run.frames if run is not None else ()), frame), rules)
    return len(scans) > 1 and sum(scans) > rules.accept_score * len(scans)


def _search(run: Run | None, frame: Observation, rules: RunRules, policy: Policy) -> Decision:
    """Answer a frame that is not good enough: go on, go back to the best, or give up there."""
    frames = (*(run.frames if run is not None else ()), frame)
    step = run.steps if run is not None else 0
    if step + 1 >= rules.max_steps:
        return _give_up(run, frame, frames, rules, Reason.STEPS_SPENT)
    if len(frames) >= rules.barren_steps and all(_score(seen) <= rules.barren_score for seen in frames):
        return _give_up(run, frame, frames, rules, Reason.NOTHING_TO_FOCUS_ON)
    best = best_frame(frames, rules)
    targets = best.parameters.controlled(rules.axes)
    is_there = not differs(targets, frame.parameters, rules)
    idle_steps = _steps_without_gain(frames, rules)
    if is_there and idle_steps >= rules.patience_steps:
        return _give_up(run, frame, frames, rules, Reason.NO_BETTER)
    # A best that passes, but not surely, is looked at again as soon as a surer one is not found.
    may_pass = best.measurement is not None and _passes(best.measurement, rules) and not best.measurement.doubts
    is_due = idle_steps >= rules.doubt_steps and may_pass and len(_scans_at(best, frames, rules)) == 1
    if not is_there and (is_due or idle_steps >= rules.patience_steps or step + 2 >= rules.max_steps):
        return _decision(run, frame, rules, Status.ADJUST, Reason.RETURNING, targets)
    return _adjust(run, frame, frames, rules, policy)


def _adjust(
    run: Run | None, frame: Observation, frames: tuple[Observation, ...], rules: RunRules, policy: Policy
) -> Decision:
    start = run.start if run is not None else frame.parameters
    window = run_window(start, rules)
    steps = policy(run_state(frames, start, rules))
    now = frame.parameters.controlled(rules.axes)
    targets = {
        # Equation (4): p' = clamp(p + delta, L, U), delta bounded by (5).
        axis: rules.limits[axis].clamp(now[axis] + window.step(axis, float(steps[AXES.index(axis)]), rules.rho))
        for axis in now
    }
    if Axis.WD in now and _stays_in_focus(frame, rules):
        # The exposure alone is still to be mended.
        targets[Axis.WD] = now[Axis.WD]
    return _decision(run, frame, rules, Status.ADJUST, Reason.MOVING, targets)


def _give_up(
    run: Run | None, frame: Observation, frames: tuple[Observation, ...], rules: RunRules, reason: Reason
) -> Decision:
    best = best_frame(frames, rules) if frames else frame
    return _decision(run, frame, rules, Status.GIVE_UP, reason, best.parameters.controlled(rules.axes))


def _hold(
    run: Run | None,
    frame: Observation,
    rules: RunRules,
    reason: Reason,
    holds: int,
    *,
    restarts_next: bool = False,
) -> Decision:
    if holds >= rules.max_holds:
        # An operator who keeps turning the knobs wins: nothing is moved back then.
        known = () if restarts_next or run is None else run.frames
        decision = _give_up(run, frame, known, rules, Reason.HOLDS_SPENT)
    else:
        decision = _stay(run, frame, rules, Status.HOLD, reason)
    return replace(decision, restarts_next=restarts_next)


def _stay(run: Run | None, frame: Observation, rules: RunRules, status: Status, reason: Reason) -> Decision:
    return _decision(run, frame, rules, status, reason, frame.parameters.controlled(rules.axes))


def _decision(
    run: Run | None,
    frame: Observation,
    rules: RunRules,
    status: Status,
    reason: Reason,
    targets: Mapping[Axis, float],
) -> Decision:
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
    )


def field_changed(last: Parameters, now: Parameters, rules: RunRules) -> bool:
    """Whether MAG, SAMPLE or STAGE say that this is another field."""
    if now.magnification != last.magnification or now.sample != last.sample:
        return True
    if now.stage_mm is None or last.stage_mm is None:
        return now.stage_mm is not last.stage_mm
    optics = rules.optics
    pixel_mm = (now.pixel_nm or 0.0) * 1e-6 or (optics.pixel_mm(now.magnification) if optics else 0.0)
    return math.dist(now.stage_mm[:2], last.stage_mm[:2]) > pixel_mm * FRAME_WIDTH_PX


def differs(targets: Mapping[Axis, float], now: Parameters, rules: RunRules) -> bool:
    """Whether a parameter does not read back as commanded: the operator turned it, or it never moved."""
    values = now.controlled(rules.axes)
    return any(
        axis in values and abs(values[axis] - target) > rules.readback_tolerance(axis)
        for axis, target in targets.items()
    )


def _has_fallen(run: Run, frame: Observation, rules: RunRules) -> bool:
    """Whether the score has fallen after the end of a run so far that a new one is due.

    After DONE the threshold is the mark; after GIVE-UP the best that the run had reached, since a field
    that never passed cannot fall below the threshold.
    """
    if not run.status.is_terminal or frame.measurement is None:
        return False
    mark = rules.accept_score
    if run.status is Status.GIVE_UP:
        mark = min(mark, max((_score(seen) for seen in run.frames), default=mark))
    return frame.measurement.score < mark - rules.restart_margin


def _passes(measurement: Measurement, rules: RunRules) -> bool:
    if not measurement.score > rules.accept_score:
        return False
    return not rules.controls_exposure or rules.exposure.accepts(measurement.exposure)


def _is_sure(measurement: Measurement, rules: RunRules) -> bool:
    """Whether one score is enough to believe that the focus passes: a single lucky one is no success."""
    return measurement.score - rules.sure_sigmas * measurement.sigma > rules.accept_score


def _stays_in_focus(frame: Observation, rules: RunRules) -> bool:
    """Whether the working distance is left alone: it surely passes, or may pass once the exposure lets it be seen.

    A bad exposure costs points that no working distance brings back; looking for them would leave a good focus.
    """
    seen = frame.measurement
    if seen is None or seen.doubts:
        return False
    is_exposed = not rules.controls_exposure or rules.exposure.accepts(seen.exposure)
    return _is_sure(seen, rules) or (not is_exposed and seen.score + rules.sure_sigmas * seen.sigma > rules.accept_score)


def _scans_at(place: Observation, frames: tuple[Observation, ...], rules: RunRules) -> list[float]:
    """Scores, none in doubt, of the frames with the settings of one of them."""
    there = place.parameters.controlled(rules.axes)
    return [_score(seen) for seen in frames if not _is_doubted(seen) and not differs(there, seen.parameters, rules)]


def _steps_without_gain(frames: tuple[Observation, ...], rules: RunRules) -> int:
    """Frames since one as good as the best, but for its error; 0 where nothing has been recognised yet."""
    if max(_score(seen) for seen in frames) <= rules.barren_score:
        return 0
    merits = [_merit(seen, rules) for seen in frames]
    best = frames[int(np.argmax(merits))].measurement
    mark = max(merits) - (best.sigma if best is not None else 0.0)
    return next(len(frames) - 1 - place for place, merit in enumerate(merits) if merit >= mark)


def _is_blank(frame: Observation, rules: RunRules) -> bool:
    """Whether nearly all pixels share one value, and no exposure within reach explains it.

    An all-white or all-black frame is what a far-off brightness gives: the actor may mend that as long as it
    has a knob for it. A flat grey frame, or a clipped one without a knob, is a scan that did not happen.
    """
    if frame.measurement is None or not frame.measurement.exposure.is_flat:
        return False
    clipped = frame.measurement.exposure.black + frame.measurement.exposure.white
    return not (rules.controls_exposure and clipped > 0.5)


def _is_doubted(frame: Observation) -> bool:
    return frame.measurement is None or bool(frame.measurement.doubts)


def _is_surely_better(frame: Observation, start: Observation, rules: RunRules) -> bool:
    one, other = frame.measurement, start.measurement
    if one is None or other is None or _is_doubted(start):
        return one is not None
    is_better = one.score - rules.sure_sigmas * one.sigma > other.score
    return is_better and (not rules.controls_exposure or _defect(frame, rules) <= _defect(start, rules))


def _defect(frame: Observation, rules: RunRules) -> float:
    return rules.exposure.defect(frame.measurement.exposure) if frame.measurement is not None else math.inf


def _score(frame: Observation) -> float:
    return frame.measurement.score if frame.measurement is not None else 0.0


def _merit(frame: Observation, rules: RunRules) -> float:
    if frame.measurement is None:
        return -math.inf
    defect = _defect(frame, rules) if rules.controls_exposure else 0.0
    return frame.measurement.score - rules.weights.c_exposure * defect
