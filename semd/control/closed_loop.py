"""One run on one microscope, with the domain's rules: what the daemon does, without files and sockets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semd.control.microscope import Microscope, Score, Shot, observe
from semd.domain.action import Status
from semd.domain.rules import RunRules
from semd.domain.run import Policy, Reason, Run, advance, decide


@dataclass(frozen=True, slots=True)
class RunRecord:
    """How a run went.

    Attributes:
        status: DONE or GIVE-UP.
        reason: why it ended.
        frames: frames taken until then.
        scores: of every frame.
        rewards: equation (6) of every frame but the first.
        first: the first frame, its image and truth.
        last: the frame the microscope is left with: the one that passed, or one scanned after going back to the best.
    """

    status: Status
    reason: Reason
    frames: int
    scores: tuple[float, ...]
    rewards: tuple[float, ...]
    first: Shot
    last: Shot

    @property
    def passed(self) -> bool:
        """Whether the run ended in DONE."""
        return self.status is Status.DONE

    @property
    def truly_good(self) -> bool:
        """Whether it did so on a frame that is good by the truth: quality at least 9 and a suitable exposure."""
        return self.passed and self.last.quality >= 9.0 and self.last.exposure_ok


def run_closed_loop(microscope: Microscope, score: Score, policy: Policy, rules: RunRules) -> RunRecord:
    """Scan, decide and move until DONE or GIVE-UP.

    Every run ends: the rules bound the steps and the HOLDs.
    """
    run: Run | None = None
    scores: list[float] = []
    rewards: list[float] = []
    first = shot = microscope.scan()
    while True:
        frame = observe(shot, score, f"frame-{len(scores):06d}")
        decision = decide(run, frame, rules, policy)
        run = advance(run, frame, decision)
        scores.append(frame.measurement.score if frame.measurement is not None else float(np.nan))
        if decision.reward is not None:
            rewards.append(decision.reward)
        microscope.apply(decision.targets)
        if decision.status.is_terminal:
            break
        shot = microscope.scan()
    return RunRecord(
        status=decision.status,
        reason=decision.reason,
        frames=len(scores),
        scores=tuple(scores),
        rewards=tuple(rewards),
        first=first,
        last=shot if decision.status is Status.DONE else microscope.scan(),
    )
