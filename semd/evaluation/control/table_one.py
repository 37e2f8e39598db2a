"""Table I of the paper with measured rows beside the published ones, from ground truth alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from semd.decision.rules import RunRules
from semd.domain.axes import Axis
from semd.domain.limits import AxisLimits
from semd.evaluation.control.episode import GOOD_SCORE, Episode
from semd.reporting.table import Cell, Column, Remark, Row, TextTable
from semd.simulator.microscope import KnobLimits

FRAME_BUDGET = 25
"""Most frames of a successful run, as in the paper."""

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
"""Table I of the paper: WD RMSE in mm, success rate of brightness and contrast, average final score."""
PAPER_CONVENTIONAL = {"grid": (0.3681, 7.0182), "tinball": (0.2153, 7.5945)}
"""Table I of the paper, conventional scheme over all magnifications: WD RMSE in mm and average final score."""
PAPER_SUCCESS = 0.93
NOTICEABLE_POINTS = 0.1
"""Smallest noticeable difference in points; the rounding of the parameter text and focus drift cause as much."""
_COLUMNS = (
    Column("sample", align="left"),
    Column("mag"),
    Column(align="left"),
    Column("runs"),
    Column("success", form="{:.4f}"),
    Column("95 %"),
    Column("WD RMSE mm", form="{:.4f}"),
    Column("B&C ok", form="{:.3f}"),
    Column("score", form="{:.3f}"),
    Column("median", form="{:.1f}"),
    Column("p95", form="{:.0f}"),
    Column("worse"),
    Column("false DONE"),
    Column("ended good", form="{:.4f}"),
)


@dataclass(frozen=True, slots=True)
class TableOneRow:
    """One cell of the table: all runs of one sample at one magnification.

    Attributes:
        sample, magnification: of the cell.
        episodes: number of runs.
        success: share of runs that ended with DONE within 25 frames at settings good by the ground truth.
        interval: 95 % confidence interval of `success` (Wilson).
        ended_good: share of runs that ended at good settings within 25 frames, whatever the last answer.
        wd_rmse_mm: RMSE of the final working distance in mm.
        exposure_success: share of runs that ended with brightness and contrast in their good range.
        mean_true_score: mean of the final true scores.
        median_frames, p95_frames: median and 95th percentile of the number of frames.
        worse_than_start: number of runs whose true score fell by more than `NOTICEABLE_POINTS`.
        lower_than_start: number of runs whose true score fell at all.
        false_done: number of runs that ended with DONE at a true score below 9.
    """

    sample: str
    magnification: int
    episodes: int
    success: float
    interval: tuple[float, float]
    ended_good: float
    wd_rmse_mm: float
    exposure_success: float
    mean_true_score: float
    median_frames: float
    p95_frames: float
    worse_than_start: int
    lower_than_start: int
    false_done: int


@dataclass(frozen=True, slots=True)
class TableOne:
    """Rows of all cells, and one row over all runs."""

    rows: tuple[TableOneRow, ...]
    total: TableOneRow

    def as_json(self) -> dict[str, object]:
        """Return the rows and the paper's figures."""
        paper = {f"{sample}-{magnification}": values for (sample, magnification), values in PAPER_TABLE.items()}
        return {
            "success": self.total.success,
            "success_95_percent_interval": [round(bound, 4) for bound in self.total.interval],
            "rows": [asdict(row) for row in (*self.rows, self.total)],
            "paper_wd_rmse_exposure_score": paper,
            "paper_conventional_wd_rmse_score": PAPER_CONVENTIONAL,
        }

    def as_text(self) -> str:
        """Format the table for a terminal, with the paper's row, where there is one, above ours."""
        rows: list[Row] = []
        for row in self.rows:
            paper = PAPER_TABLE.get((row.sample, row.magnification))
            if paper is not None:
                rows.append((row.sample, row.magnification, "paper", "", "", "", *paper))
            rows.append((row.sample, row.magnification, "semd", *_cells(row)))
        for sample in dict.fromkeys(row.sample for row in self.rows):
            if sample in PAPER_CONVENTIONAL:
                wd, score = PAPER_CONVENTIONAL[sample]
                rows.append((sample, "all", "paper", "", "", "", wd, None, score, Remark("conventional scheme")))
        rows.append(("all", "", "semd", *_cells(self.total)))
        return TextTable(
            columns=_COLUMNS,
            rows=tuple(rows),
            notes=(
                f"success: DONE within {FRAME_BUDGET} frames at settings good by the ground truth; "
                f"paper {PAPER_SUCCESS}",
                f"worse: by more than {NOTICEABLE_POINTS} points; lower at all: {self.total.lower_than_start} of "
                f"{self.total.episodes}",
            ),
        ).as_text()


def _cells(row: TableOneRow) -> tuple[Cell, ...]:
    low, high = row.interval
    return (
        row.episodes,
        row.success,
        f"{low:.3f}..{high:.3f}",
        row.wd_rmse_mm,
        row.exposure_success,
        row.mean_true_score,
        row.median_frames,
        row.p95_frames,
        row.worse_than_start,
        row.false_done,
        row.ended_good,
    )


def simulator_rules(n_frames: int, rho: float) -> RunRules:
    """Make the default rules with the limits of the virtual microscope."""
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


def make_table(groups: Mapping[tuple[str, int], Sequence[Episode]]) -> TableOne:
    """Make one row for the runs of each sample and magnification, and one for all runs."""
    rows = [summarise(sample, magnification, group) for (sample, magnification), group in groups.items()]
    return TableOne(tuple(rows), summarise("all", 0, [episode for group in groups.values() for episode in group]))


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """95 % confidence interval of a share of `count` runs (Wilson)."""
    z = 1.96
    centre = share + z * z / (2 * count)
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return (centre - reach) / scale, (centre + reach) / scale


def summarise(sample: str, magnification: int, episodes: Sequence[Episode]) -> TableOneRow:
    """Summarise the runs of one cell as a row of the table."""
    frames = np.array([episode.frames for episode in episodes])
    errors = np.array([episode.wd_error_mm for episode in episodes])
    success = float(np.mean([e.success and e.frames <= FRAME_BUDGET for e in episodes]))
    return TableOneRow(
        sample=sample,
        magnification=magnification,
        episodes=len(episodes),
        success=success,
        interval=wilson_interval(success, len(episodes)),
        ended_good=float(np.mean([e.is_good and e.frames <= FRAME_BUDGET for e in episodes])),
        wd_rmse_mm=float(np.sqrt(np.mean(errors**2))),
        exposure_success=float(np.mean([e.brightness_contrast_ok for e in episodes])),
        mean_true_score=float(np.mean([e.true_score for e in episodes])),
        median_frames=float(np.median(frames)),
        p95_frames=float(np.percentile(frames, 95)),
        worse_than_start=sum(e.true_score < e.start_true_score - NOTICEABLE_POINTS for e in episodes),
        lower_than_start=sum(e.true_score < e.start_true_score for e in episodes),
        false_done=sum(e.status == "DONE" and e.true_score < GOOD_SCORE for e in episodes),
    )
