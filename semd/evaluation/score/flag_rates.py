"""Rates of the quality flags on faulty and ordinary frames, and the scores of the papers' class 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from semd.datasets.dataset import LabelledFrames
from semd.datasets.faulty import EMPTY, FAULTS, Fault, faulty_frames
from semd.domain.frame_score import FrameScore
from semd.evaluation.score.predictions import FrameProgress, Predictions
from semd.reporting.table import Column, Row, TextTable
from semd.scoring.scorer import Scorer

ZERO_SCORE = 0.5
"""Scores below this count as class 0, nothing recognisable: half-way between the marks 0 and 1."""
_ORDINARY = ("normal", "dark", "bright")
_COLUMNS = (
    Column("frames that nobody should score", align="left"),
    Column("frames"),
    Column("flagged", form="{:.1f} %"),
    Column("score at most", form="{:.2f}"),
    Column("< 0.5", form="{:.1f} %"),
    Column(align="left"),
)


@dataclass(frozen=True, slots=True)
class FaultRow:
    """Flag rates and scores of the frames with one fault.

    Attributes:
        fault: name of the fault.
        frames: number of frames.
        flagged: share with at least one quality flag.
        by_flag: share with each quality flag.
        largest_score: largest score of these frames.
        below_zero_score: share with a score below `ZERO_SCORE`.
    """

    fault: str
    frames: int
    flagged: float
    by_flag: dict[str, float]
    largest_score: float
    below_zero_score: float


@dataclass(frozen=True, slots=True)
class FlagRates:
    """Flag rates of every fault, and the false-flag rate of ordinary frames.

    Attributes:
        rows: one per fault.
        empty: noise, white, black and saturated frames pooled: the papers' class 0.
        to_flag: class 0 and the striped frames pooled.
        false_flags: share of ordinary frames with a quality flag; None if no ordinary frames were given.
        ordinary: number of ordinary frames.
    """

    rows: tuple[FaultRow, ...]
    empty: FaultRow
    to_flag: FaultRow
    false_flags: float | None
    ordinary: int

    def as_json(self) -> dict[str, object]:
        """Return the report's values; flag rates keep their published key `by_doubt`."""
        return {
            "rows": tuple(_row_json(row) for row in self.rows),
            "empty": _row_json(self.empty),
            "to_flag": _row_json(self.to_flag),
            "false_flags": self.false_flags,
            "ordinary": self.ordinary,
        }

    def as_text(self) -> str:
        """Format the table for a terminal."""
        rows: list[Row] = []
        for row in (*self.rows, self.empty, self.to_flag):
            flags = ", ".join(f"{name} {100 * share:.0f} %" for name, share in row.by_flag.items())
            shares = 100 * row.flagged, 100 * row.below_zero_score
            rows.append((row.fault, row.frames, shares[0], row.largest_score, shares[1], flags))
        if self.false_flags is not None:
            rows.append(("ordinary frames of the grouped test", self.ordinary, 100 * self.false_flags))
        return TextTable(_COLUMNS, tuple(rows)).as_text()


def measure_flag_rates(
    scorer: Scorer,
    count: int,
    seed: int,
    track: FrameProgress,
    ordinary: Predictions | None = None,
) -> FlagRates:
    """Score `count` frames of each fault and count their quality flags.

    Args:
        scorer: the scoring machine.
        count: frames of each fault, at least 1.
        seed: seed of the simulated faulty frames.
        track: progress display.
        ordinary: predictions for ordinary frames, for the false-flag rate.
    """
    judged: dict[Fault, list[FrameScore]] = {fault: [] for fault in FAULTS}
    frames = (frame for fault in FAULTS for frame in faulty_frames(fault, count, seed))
    for _ in track(range(count * len(FAULTS)), "faulty frames"):
        frame = next(frames)
        judged[frame.fault].append(scorer.judge(frame.image, frame.magnification))
    empty = [each for fault in EMPTY for each in judged[fault]]
    return FlagRates(
        rows=tuple(_row(fault, found) for fault, found in judged.items()),
        empty=_row("all of the 0 class", empty),
        to_flag=_row("0 class and striped", empty + judged["striped"]),
        false_flags=float(ordinary.flagged.mean()) if ordinary is not None and ordinary.flagged is not None else None,
        ordinary=0 if ordinary is None else len(ordinary.score),
    )


def is_ordinary(frames: LabelledFrames) -> NDArray[np.bool_]:
    """Mask of a dataset's ordinary frames, bool (N,): recognisable, with a plain, dark or bright exposure."""
    return np.asarray((frames.label > 0) & np.isin(frames.variant, _ORDINARY))


def _row_json(row: FaultRow) -> dict[str, object]:
    return {"by_doubt" if key == "by_flag" else key: value for key, value in asdict(row).items()}


def _row(name: str, judged: Sequence[FrameScore]) -> FaultRow:
    flags = Counter(str(flag) for each in judged for flag in each.flags)
    return FaultRow(
        fault=name,
        frames=len(judged),
        flagged=sum(bool(each.flags) for each in judged) / len(judged),
        by_flag={name: found / len(judged) for name, found in sorted(flags.items())},
        largest_score=max(each.score for each in judged),
        below_zero_score=sum(each.score < ZERO_SCORE for each in judged) / len(judged),
    )
