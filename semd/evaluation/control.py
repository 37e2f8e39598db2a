"""`semd evaluate control`: Table I of the paper with our rows beside its own, from ground truth alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from semd.domain.axes import Axis
from semd.domain.limits import AxisLimits
from semd.domain.rules import RunRules
from semd.evaluation.episode import GOOD_SCORE, Episode, run_episode
from semd.pipeline import Pipeline
from semd.simulator.field import Sample
from semd.simulator.microscope import KnobLimits, VirtualMicroscope

FRAME_BUDGET = 25
"""The paper counts a run as successful when the best image comes within this many frames."""

PAPER_TABLE: dict[tuple[str, int], tuple[float, float, float]] = {
    ("grid", 500): (0.2267, 1.0, 9.5353),
    ("grid", 1000): (0.1893, 0.9796, 9.2535),
    ("grid", 2000): (0.1324, 1.0, 9.5559),
    ("grid", 5000): (0.0932, 1.0, 9.0366),
    ("tinball", 500): (0.1292, 1.0, 9.3748),
    ("tinball", 1000): (0.1034, 1.0, 9.2749),
    ("tinball", 2000): (0.0813, 1.0, 9.1504),
    ("tinball", 5000): (0.0718, 1.0, 9.3766),
}
"""Table I: WD RMSE in mm, brightness & contrast success, average final score."""


@dataclass(frozen=True, slots=True)
class Row:
    """One cell of the table: all runs of one sample at one magnification.

    Attributes:
        sample, magnification: of the cell.
        episodes: number of runs.
        success: fraction that said DONE within 25 frames and was right.
        wd_rmse_mm: over all runs.
        exposure_success: fraction that ended with brightness and contrast in their good range.
        mean_true_score: at the end.
        median_frames, p95_frames: of all runs.
        worse_than_start: runs that ended worse than they began by ground truth.
        false_done: runs that said DONE although the true score is below 9.
    """

    sample: str
    magnification: int
    episodes: int
    success: float
    wd_rmse_mm: float
    exposure_success: float
    mean_true_score: float
    median_frames: float
    p95_frames: float
    worse_than_start: int
    false_done: int


@dataclass(frozen=True, slots=True)
class Table:
    """All rows, and the runs behind them pooled into one."""

    rows: tuple[Row, ...]
    total: Row
    interval: tuple[float, float]

    def as_json(self) -> dict[str, object]:
        """Rows with the paper's figures beside them."""
        paper = {f"{sample}-{magnification}": values for (sample, magnification), values in PAPER_TABLE.items()}
        return {
            "success": self.total.success,
            "success_95_percent_interval": [round(bound, 4) for bound in self.interval],
            "rows": [asdict(row) for row in (*self.rows, self.total)],
            "paper_wd_rmse_exposure_score": paper,
        }

    def as_text(self) -> str:
        """The table for a terminal."""
        head = f"{'sample':10}{'mag':>6}{'runs':>6}{'success':>9}{'WD RMSE mm':>12}{'(paper)':>9}"
        head += f"{'B&C ok':>8}{'(paper)':>9}{'score':>7}{'(paper)':>9}{'median':>8}{'p95':>6}{'worse':>7}"
        lines = [head]
        for row in (*self.rows, self.total):
            paper = PAPER_TABLE.get((row.sample, row.magnification))
            wd, exposure, score = (f"{value:.4f}" for value in paper) if paper else ("-", "-", "-")
            lines.append(
                f"{row.sample:10}{row.magnification or '-':>6}{row.episodes:>6}{row.success:>9.3f}"
                f"{row.wd_rmse_mm:>12.4f}{wd:>9}{row.exposure_success:>8.3f}{exposure:>9}"
                f"{row.mean_true_score:>7.3f}{score:>9}{row.median_frames:>8.1f}{row.p95_frames:>6.0f}"
                f"{row.worse_than_start:>7}"
            )
        low, high = self.interval
        lines.append(f"success within {FRAME_BUDGET} frames, 95 % interval {low:.3f}..{high:.3f}; paper 0.93")
        return "\n".join(lines)


def simulator_rules(n_frames: int, rho: float) -> RunRules:
    """The default rules within the virtual microscope's limits."""
    knobs = KnobLimits()
    return RunRules(
        limits={
            Axis.WD: AxisLimits(*knobs.wd_mm),
            Axis.BRIGHTNESS: AxisLimits(*knobs.brightness),
            Axis.CONTRAST: AxisLimits(*knobs.contrast),
        },
        n_frames=n_frames,
        rho=rho,
    )


def run_table(
    pipeline: Pipeline,
    cells: Sequence[tuple[Sample, int]],
    episodes: int,
    track: Callable[[Sequence[tuple[Sample, int, int]]], Iterable[tuple[Sample, int, int]]],
) -> Table:
    """Run seeds 0.. of every cell.

    Args:
        pipeline: models and rules.
        cells: (sample, magnification).
        episodes: seeds of each cell.
        track: shows progress while it hands the runs through.
    """
    runs = [(sample, magnification, seed) for sample, magnification in cells for seed in range(episodes)]
    done: dict[tuple[Sample, int], list[Episode]] = {cell: [] for cell in cells}
    for sample, magnification, seed in track(runs):
        microscope = VirtualMicroscope(sample, magnification, seed)
        done[sample, magnification].append(run_episode(microscope, pipeline))
    rows = [summarise(sample, magnification, group) for (sample, magnification), group in done.items()]
    pooled = [episode for group in done.values() for episode in group]
    total = summarise("all", 0, pooled)
    return Table(tuple(rows), total, wilson_interval(total.success, len(pooled)))


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """95 % confidence interval of a share of `count` runs (Wilson)."""
    z = 1.96
    centre = share + z * z / (2 * count)
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return (centre - reach) / scale, (centre + reach) / scale


def summarise(sample: str, magnification: int, episodes: Sequence[Episode]) -> Row:
    """Make one row of the table."""
    frames = np.array([episode.frames for episode in episodes])
    errors = np.array([episode.wd_error_mm for episode in episodes])
    return Row(
        sample=sample,
        magnification=magnification,
        episodes=len(episodes),
        success=float(np.mean([e.success and e.frames <= FRAME_BUDGET for e in episodes])),
        wd_rmse_mm=float(np.sqrt(np.mean(errors**2))),
        exposure_success=float(np.mean([e.brightness_contrast_ok for e in episodes])),
        mean_true_score=float(np.mean([e.true_score for e in episodes])),
        median_frames=float(np.median(frames)),
        p95_frames=float(np.percentile(frames, 95)),
        worse_than_start=sum(e.true_score < e.start_true_score for e in episodes),
        false_done=sum(e.status == "DONE" and e.true_score < GOOD_SCORE for e in episodes),
    )
