"""Transitions of Algorithm 1 from the daemon's own records, for learning from the instrument.

The ledger keeps every answered frame as it was measured and how it was answered. The state (3) is not in it; it is
rebuilt by advancing over the frames, as the daemon does after a restart. A transition leads from a frame that was
answered ADJUST to the next one of its run that is not answered HOLD:

- The action is what happened: the difference of the values read on both frames, on the scale of (4) and (5). What
  was asked for is not it where a limit, the rounding of the files or the read-back tolerance came between.
- The reward is (6) of the later frame, with the weights of the training: the critic must hear of one reward only.
- DONE ends it for good (termination). GIVE-UP only stops it: the steps were spent, more would have followed
  (truncation), so the later state is bootstrapped from like any other.

Every answered frame either begins a transition or is counted under one `Skip`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from semd.daemon.daemon_process import LEDGER_FILE
from semd.daemon.records import decision_from_json, observation_from_json
from semd.decision.rules import RunRules
from semd.decision.run import Decision, Reason, Run, advance, run_state, run_window
from semd.domain.axes import AXES, Parameters
from semd.domain.exposure import ExposureRange
from semd.domain.observation import Observation
from semd.domain.reward import RewardWeights, reward
from semd.domain.state import FEATURES_PER_FRAME
from semd.errors import DatasetError, FrameError, LedgerDamagedError
from semd.outbox.ledger import Ledger
from semd.protocol.action import Status
from semd.protocol.parameter_text import check_parameters
from semd.training.control.experience import Experience

Answers = Iterable[tuple[str | bytes | None, str | bytes]]
"""Observation and decision of each answered frame as JSON, in the order of answering."""


class Skip(StrEnum):
    """Reason that a frame begins no transition.

    Attributes:
        ENDED: answered DONE or GIVE-UP: the run is over.
        HOLD: answered HOLD: nothing was decided, the same settings were scanned again. The frame stays in the
            states of its run.
        TAKEN_OVER: the move from it did not read back: the operator turned a knob, or a parameter never moved.
            What was read may not be what the picture was scanned with, and the move was not the policy's.
        RUN_CUT: the run breaks off with it: another field, or the records end. No terminal: nobody knows how it
            would have gone on.
        UNMEASURED: the run ended on a damaged image.
        BEYOND_BOUND: the move from it was larger than (5) lets the actor go: the rules' return to the best frame.
            The critic is asked for no such action, so it need not know its value.
        CALIBRATING: a sweep of `semd calibrate`.
        DAMAGED: it cannot be read, or holds values that cannot be.
        FOREIGN: its parameters or axes are not those of the configuration: other limits, another instrument.
        HISTORY_LOST: an earlier or the next frame of its run is missing, damaged or foreign, so the state or the
            end is unknown.
    """

    ENDED = "ended"
    HOLD = "hold"
    TAKEN_OVER = "taken-over"
    RUN_CUT = "run-cut"
    UNMEASURED = "unmeasured"
    BEYOND_BOUND = "beyond-the-bound"
    CALIBRATING = "calibrating"
    DAMAGED = "damaged"
    FOREIGN = "foreign"
    HISTORY_LOST = "history-lost"


@dataclass(frozen=True, slots=True)
class Records:
    """Content of the records.

    Attributes:
        experience: the transitions, in the order in which they happened.
        frames: answered frames: as many as transitions and skipped ones together.
        skipped: frames that begin no transition, by reason; reasons without any are left out.
    """

    experience: Experience
    frames: int
    skipped: Mapping[Skip, int]

    def summary(self) -> dict[str, object]:
        """Counts for people and manifests."""
        return {
            "frames": self.frames,
            "transitions": len(self.experience),
            "passed": int(self.experience.terminated.sum()),
            "skipped": {str(reason): count for reason, count in sorted(self.skipped.items())},
        }


def read_records(
    directory: Path, rules: RunRules, weights: RewardWeights, aim: ExposureRange, console: Console | None = None
) -> Records:
    """Read the ledger of a daemon's state directory; the daemon may be running.

    Args:
        directory: the state directory, or a copy of it.
        rules: of the daemon that wrote the records: limits, axes and optics make the state; N and rho are those
            of the actor to be trained.
        weights: of the reward (6).
        aim: the exposure that the reward asks for.
        console: where the progress bar goes; None for standard error.

    Raises:
        DatasetError: there is no ledger, or not one transition in it; says why by count.
        LedgerError: it is not a ledger of ours, or damaged.
        StorageError: it cannot be opened.
    """
    path = directory / LEDGER_FILE
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; name the [state] directory of a daemon that has answered frames")
    with Ledger(path, now=lambda: datetime.now(UTC)) as ledger:
        answers = ledger.answers()
    console = console or Console(stderr=True)
    records = transitions_of(track(answers, "reading records", console=console, transient=True), rules, weights, aim)
    if not len(records.experience):
        found = ", ".join(f"{reason} {count}" for reason, count in sorted(records.skipped.items())) or "no frame"
        raise DatasetError(
            f"{path}: no transition to learn from in {records.frames} answered frames ({found}); where they are "
            "foreign, name the daemon's own configuration with --config"
        )
    return records


def transitions_of(answers: Answers, rules: RunRules, weights: RewardWeights, aim: ExposureRange) -> Records:
    """Turn answered frames into transitions; see the module and `read_records`."""
    reader = _TransitionBuilder(rules, weights, aim)
    for observation, decision in answers:
        reader.take(observation, decision)
    return reader.finish()


@dataclass(frozen=True, slots=True)
class _Move:
    """A frame that was answered ADJUST, until the next frame shows the result."""

    parameters: Parameters
    state: NDArray[np.float32]


class _TransitionBuilder:
    """Walks over the answered frames; remembers the run as the daemon did, and the move under way."""

    def __init__(self, rules: RunRules, weights: RewardWeights, aim: ExposureRange) -> None:
        self._rules = rules
        self._weights = weights
        self._aim = aim
        self._run: Run | None = None
        self._move: _Move | None = None
        self._frames = 0
        self._skipped: Counter[Skip] = Counter()
        self._transitions: list[tuple[NDArray[np.float32], NDArray[np.float32], float, NDArray[np.float32], bool]] = []

    def take(self, observation_json: str | bytes | None, decision_json: str | bytes) -> None:
        """Read the next frame."""
        self._frames += 1
        try:
            frame, decision = observation_from_json(observation_json or b""), decision_from_json(decision_json)
        except LedgerDamagedError:
            self._break(Skip.DAMAGED)
            return
        problem = self._problem(frame, decision)
        if problem is not None:
            self._break(problem)
            return
        if decision.starts_run:
            self._drop_move(Skip.RUN_CUT)
        self._run = run = advance(self._run, frame, decision)
        if decision.reason is Reason.CALIBRATING:
            self._drop_move(Skip.RUN_CUT)
            self._skipped[Skip.CALIBRATING] += 1
            return
        if self._move is not None:
            self._arrive(self._move, run, frame, decision)
        if decision.status is Status.ADJUST:
            self._move = _Move(frame.parameters, run_state(run.frames, run_window(run.start, self._rules), self._rules))
        else:
            self._skipped[Skip.HOLD if decision.status is Status.HOLD else Skip.ENDED] += 1

    def finish(self) -> Records:
        """Return the records read."""
        self._drop_move(Skip.RUN_CUT)
        size = FEATURES_PER_FRAME * self._rules.n_frames
        columns = list(zip(*self._transitions, strict=True)) or [()] * 5
        states, actions, rewards, next_states, terminated = columns
        experience = Experience(
            states=np.array(states, np.float32).reshape(-1, size),
            actions=np.array(actions, np.float32).reshape(-1, len(AXES)),
            rewards=np.array(rewards, np.float64),
            next_states=np.array(next_states, np.float32).reshape(-1, size),
            terminated=np.array(terminated, np.bool_),
        )
        return Records(experience, self._frames, dict(self._skipped))

    def _problem(self, frame: Observation, decision: Decision) -> Skip | None:
        """Reason that a readable frame cannot be used, or None."""
        if not _is_possible(frame, decision):
            return Skip.DAMAGED
        try:
            check_parameters(frame.parameters, self._rules.axes, self._rules.limits)
        except FrameError:
            return Skip.FOREIGN
        if decision.reason is not Reason.CALIBRATING and set(decision.targets) != set(self._rules.axes):
            return Skip.FOREIGN
        if not decision.starts_run and (self._run is None or decision.step != self._run.steps):
            return Skip.HISTORY_LOST
        return None

    def _arrive(self, move: _Move, run: Run, frame: Observation, decision: Decision) -> None:
        """Finish the move under way with the frame it led to, unless that frame is to be scanned again."""
        if decision.restarts_next:
            self._drop_move(Skip.TAKEN_OVER)
        elif decision.status is Status.HOLD:
            return
        elif frame.measurement is None:
            self._drop_move(Skip.UNMEASURED)
        else:
            action = self._action(run, move.parameters, frame.parameters)
            if action is None:
                self._drop_move(Skip.BEYOND_BOUND)
                return
            state = run_state(run.frames, run_window(run.start, self._rules), self._rules)
            gained = reward(frame.measurement, self._weights, self._aim)
            self._transitions.append((move.state, action, gained, state, decision.status is Status.DONE))
            self._move = None

    def _action(self, run: Run, before: Parameters, now: Parameters) -> NDArray[np.float32] | None:
        """The step between two frames on the networks' scale, float32 (3,); None where (5) allows no such step.

        An axis that is not controlled is at rest, as in the state. What exceeds the bound by no more than the
        read-back tolerance is a step of the bound.
        """
        window, bound = run_window(run.start, self._rules), 2.0 * self._rules.rho
        then, there = before.controlled(self._rules.axes), now.controlled(self._rules.axes)
        step = np.zeros(len(AXES))
        for place, axis in enumerate(AXES):
            if axis not in there:
                continue
            step[place] = (there[axis] - then[axis]) / window.half_width[axis]
            if abs(step[place]) > bound + self._rules.readback_tolerance(axis) / window.half_width[axis]:
                return None
        return np.clip(step, -bound, bound).astype(np.float32)

    def _drop_move(self, reason: Skip) -> None:
        if self._move is not None:
            self._skipped[reason] += 1
            self._move = None

    def _break(self, reason: Skip) -> None:
        """Count a frame that cannot be used; the rest of its run cannot be either."""
        self._drop_move(Skip.HISTORY_LOST)
        self._run = None
        self._skipped[reason] += 1


def _is_possible(frame: Observation, decision: Decision) -> bool:
    """Return True if a daemon can have written this: finite numbers, sizes above 0, a measurement where it moved."""
    measurement, pixel_nm = frame.measurement, frame.parameters.pixel_nm
    if pixel_nm is not None and not 0.0 < pixel_nm < np.inf:
        return False
    if measurement is None:
        return decision.status is not Status.ADJUST
    features, exposure = measurement.features, measurement.exposure
    numbers = [measurement.score, features.avg, exposure.black, exposure.white, exposure.level, exposure.contrast]
    roots = [features.grd, features.var]
    return features.pixels > 0 and bool(np.isfinite(numbers + roots).all()) and min(roots) >= 0.0
