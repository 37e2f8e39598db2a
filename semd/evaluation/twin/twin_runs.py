"""Complete runs on the feature-level twin with the daemon's rules: thousands in a minute, to find rare failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semd.decision.decide import decide
from semd.decision.rules import RunRules
from semd.decision.run import Policy, Run, advance
from semd.evaluation.control.episode import GOOD_SCORE
from semd.evaluation.control.table_one import FRAME_BUDGET, NOTICEABLE_POINTS, wilson_interval
from semd.protocol.action import Status
from semd.simulator.twin_microscopes import TwinMicroscopes, TwinTruth

TWIN_SEED = 88_000


@dataclass(frozen=True, slots=True)
class TwinRuns:
    """Counts over the runs.

    Attributes:
        episodes: number of runs.
        success: share of runs that ended with DONE within 25 frames at settings good by the ground truth.
        interval: 95 % confidence interval of `success` (Wilson).
        median_frames, p95_frames: median and 95th percentile of the number of frames.
        worse_than_start: number of runs whose final true score is lower, by more than `NOTICEABLE_POINTS`, than it
            would be at the settings of the start.
        lower_than_start: number of runs whose final true score is lower at all.
        false_done: number of runs that ended with DONE at a true score below 9.
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
        """Format the counts as one line."""
        low, high = self.interval
        return (
            f"on the twin, {self.episodes} runs: success {self.success:.4f} ({low:.4f}..{high:.4f}), "
            f"median {self.median_frames:.0f}, p95 {self.p95_frames:.0f} frames, "
            f"{self.worse_than_start} worse than the start by more than {NOTICEABLE_POINTS} points "
            f"({self.lower_than_start} lower at all), {self.false_done} false DONE"
        )


@dataclass(frozen=True, slots=True)
class _RunEnds:
    """End of each run.

    Attributes:
        frames: number of frames, int64 (N,).
        said_done: True where the run ended with DONE, bool (N,).
        score: true score, float64 (N,).
        start_score: true score at the settings of the start, float64 (N,).
        exposure_ok: True where brightness and contrast are good, bool (N,).
    """

    frames: NDArray[np.int64]
    said_done: NDArray[np.bool_]
    score: NDArray[np.float64]
    start_score: NDArray[np.float64]
    exposure_ok: NDArray[np.bool_]

    @classmethod
    def of(cls, count: int) -> _RunEnds:
        """Make zero arrays for `count` runs."""
        flags = (np.zeros(count, bool), np.zeros(count, bool))
        return cls(np.zeros(count, np.int64), flags[0], np.zeros(count), np.zeros(count), flags[1])

    def record(self, rows: list[int], truth: TwinTruth) -> None:
        """Store the ground truth of the runs in `rows`."""
        self.score[rows], self.start_score[rows] = truth.score[rows], truth.start_score[rows]
        self.exposure_ok[rows] = truth.exposure_ok[rows]


def play_on_twin(
    policy: Policy, rules: RunRules, microscopes: TwinMicroscopes, track: Callable[[Iterable[int], int], Iterable[int]]
) -> TwinRuns:
    """Play a run on each virtual microscope until all runs have ended.

    Args:
        policy: the actor.
        rules: rules of the runs.
        microscopes: the microscopes at their start.
        track: progress display; takes the frame numbers and their count, and passes the numbers through.
    """
    episodes = microscopes.count
    runs: list[Run | None] = [None] * episodes
    ends = _RunEnds.of(episodes)
    truth = microscopes.scan()
    open_rows = list(range(episodes))
    # HOLD answers do not count as steps, so a run may take one frame more than its steps.
    for number in track(range(1, rules.max_steps + 2), rules.max_steps + 1):
        still_open: list[int] = []
        done: list[int] = []
        moved: list[int] = []
        for row in open_rows:
            seen = microscopes.observation(row, f"frame-{number:06d}")
            decision = decide(runs[row], seen, rules, policy)
            runs[row] = advance(runs[row], seen, decision)
            microscopes.apply(row, decision.targets)
            ends.frames[row] = number
            which = {Status.DONE: done, Status.GIVE_UP: moved}.get(decision.status, still_open)
            which.append(row)
        open_rows, ends.said_done[done] = still_open, True
        ends.record(done, truth)
        truth = microscopes.scan()
        # GIVE-UP moves to other settings; the next scan has their ground truth.
        ends.record(moved, truth)
        if not open_rows:
            break
    return _summarise(ends)


def _summarise(ends: _RunEnds) -> TwinRuns:
    episodes = len(ends.frames)
    good = (ends.score >= GOOD_SCORE) & ends.exposure_ok
    success = float((ends.said_done & good & (ends.frames <= FRAME_BUDGET)).mean())
    return TwinRuns(
        episodes=episodes,
        success=success,
        interval=wilson_interval(success, episodes),
        median_frames=float(np.median(ends.frames)),
        p95_frames=float(np.percentile(ends.frames, 95)),
        worse_than_start=int((ends.score < ends.start_score - NOTICEABLE_POINTS).sum()),
        lower_than_start=int((ends.score < ends.start_score).sum()),
        false_done=int((ends.said_done & (ends.score < GOOD_SCORE)).sum()),
    )
