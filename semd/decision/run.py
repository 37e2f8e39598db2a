"""A run's memory: its frames, how each was answered, and the state (3) that its frames make.

A run is rebuilt by `advance` from its recorded frames and decisions alone. That is how the daemon goes on after a
restart and how a recorded sequence replays to the same actions (protocol, section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from semd.decision.rules import RunRules
from semd.domain.axes import Axis, Parameters
from semd.domain.limits import Window, control_window
from semd.domain.observation import Observation
from semd.domain.state import frame_features, stack_state
from semd.protocol.action import Status

Policy = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""The actor: state (10 N,) -> steps of the three axes on the networks' scale, (3,)."""


class Reason(StrEnum):
    """Reason of an answer, one word to grep for; `stop_rules` says when each is given."""

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
        starts_run: True where this frame is the first of a new run.
        restarts_next: True where the operator took over, so that the next frame starts a new run.
        score: the frame's score as the run judges it: the scoring machine's, corrected by the focus fit. None where the
            scoring machine's stands: without an image, in a calibration, and in ledgers of earlier versions.
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
        frames: measured frames, oldest first.
        start: parameters of the run's first frame.
        last: parameters of the last frame, measured or not.
        targets: targets of the last answer.
        status: status of the last answer.
        steps: frames answered in this run.
        holds: HOLDs in a row, across runs.
        restarts_next: True where the next frame starts a new run.
    """

    frames: tuple[Observation, ...]
    start: Parameters
    last: Parameters
    targets: Mapping[Axis, float]
    status: Status
    steps: int
    holds: int
    restarts_next: bool


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
    """Control window of the run that began with `start`."""
    return control_window(rules.limits, rules.optics, start.wd_mm, start.magnification, start.pixel_nm)


def run_state(frames: tuple[Observation, ...], window: Window, rules: RunRules) -> NDArray[np.float32]:
    """Equations (2) and (3) over the measured frames of a run; shape (10 N,), float32.

    Args:
        frames: at least one frame, oldest first.
        window: the run's control window, see `run_window`.
        rules: N, rho and the controlled axes.
    """
    # One frame more than N gives the oldest of them the step that led to it.
    recent = frames[-(rules.n_frames + 1) :]
    rows = [
        frame_features(
            frame.parameters,
            frame.measurement,
            recent[index - 1].parameters if index else None,
            window,
            rules.rho,
            rules.axes,
        )
        for index, frame in enumerate(recent)
        if frame.measurement is not None
    ]
    return stack_state(rows[-rules.n_frames :], rules.n_frames)
