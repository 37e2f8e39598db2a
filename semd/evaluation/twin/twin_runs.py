"""Whole runs on the feature-level twin by the daemon's own rules: thousands in a minute, to find what is rare."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from semd.decision.decide import decide
from semd.decision.rules import RunRules
from semd.decision.run import Policy, Run, advance
from semd.evaluation.control.episode import GOOD_SCORE
from semd.evaluation.control.table_one import FRAME_BUDGET, TELLABLE, wilson_interval
from semd.protocol.action import Status
from semd.simulator.twin_stand import TwinStand

TWIN_SEED = 88_000


@dataclass(frozen=True, slots=True)
class TwinRuns:
    """Counts over the runs.

    Attributes:
        episodes: number of runs.
        success: share that said DONE within 25 frames on a picture good by the truth.
        interval: 95 % confidence interval of it.
        median_frames, p95_frames: of all runs.
        worse_than_start: runs that ended on a lower true score, by more than a tenth of a point, than leaving the knobs
            alone would have.
        lower_than_start: the same by anything at all.
        false_done: runs that said DONE on a true score below 9.
    """

    episodes: int
    success: float
    interval: tuple[float, float]
    median_frames: float
    p95_frames: float
    worse_than_start: int
    lower_than_start: int
    false_done: int

    def as_text(self) -> str:
        """One line for a terminal."""
        low, high = self.interval
        return (
            f"on the twin, {self.episodes} runs: success {self.success:.4f} ({low:.4f}..{high:.4f}), "
            f"median {self.median_frames:.0f}, p95 {self.p95_frames:.0f} frames, "
            f"{self.worse_than_start} worse than the start by more than {TELLABLE} points "
            f"({self.lower_than_start} by anything at all), {self.false_done} false DONE"
        )


def play_on_twin(
    policy: Policy, rules: RunRules, stand: TwinStand, track: Callable[[Iterable[int], int], Iterable[int]]
) -> TwinRuns:
    """Play a run on each microscope of a stand until all have ended.

    Args:
        policy: the actor.
        rules: of the runs.
        stand: the microscopes at their start.
        track: shows progress while it hands frame numbers through, given their largest number.
    """
    episodes = stand.count
    runs: list[Run | None] = [None] * episodes
    frames = np.zeros(episodes, np.int64)
    said_done = np.zeros(episodes, bool)
    score, start_score, exposure_ok = np.zeros(episodes), np.zeros(episodes), np.zeros(episodes, bool)
    truth = stand.scan()
    open_rows = list(range(episodes))
    # HOLDs come on top of the steps a run may take.
    for number in track(range(1, rules.max_steps + 2), rules.max_steps + 1):
        still_open: list[int] = []
        done: list[int] = []
        moved: list[int] = []
        for row in open_rows:
            seen = stand.observation(row, f"frame-{number:06d}")
            decision = decide(runs[row], seen, rules, policy)
            runs[row] = advance(runs[row], seen, decision)
            stand.apply(row, decision.targets)
            frames[row] = number
            which = {Status.DONE: done, Status.GIVE_UP: moved}.get(decision.status, still_open)
            which.append(row)
        open_rows, said_done[done] = still_open, True
        score[done], start_score[done] = truth.score[done], truth.start_score[done]
        exposure_ok[done] = truth.exposure_ok[done]
        truth = stand.scan()
        # Where GIVE-UP has left the knobs, the next scan tells.
        score[moved], start_score[moved] = truth.score[moved], truth.start_score[moved]
        exposure_ok[moved] = truth.exposure_ok[moved]
        if not open_rows:
            break
    good = (score >= GOOD_SCORE) & exposure_ok
    success = float((said_done & good & (frames <= FRAME_BUDGET)).mean())
    return TwinRuns(
        episodes=episodes,
        success=success,
        interval=wilson_interval(success, episodes),
        median_frames=float(np.median(frames)),
        p95_frames=float(np.percentile(frames, 95)),
        worse_than_start=int((score < start_score - TELLABLE).sum()),
        lower_than_start=int((score < start_score).sum()),
        false_done=int((said_done & (score < GOOD_SCORE)).sum()),
    )
