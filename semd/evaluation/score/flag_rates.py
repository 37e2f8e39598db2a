"""The 0 class and the flags: what the scoring machine says of frames that nobody should score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semd.datasets.dataset import LabelledFrames
from semd.datasets.faulty import EMPTY, FAULTS, Fault, faulty_frames
from semd.domain.frame_score import FrameScore
from semd.evaluation.score.predictions import Predictions, Track
from semd.scoring.scorer import Scorer

ZERO_SCORE = 0.5
"""Below it a score says that there is nothing to see."""
_ORDINARY = ("normal", "dark", "bright")


@dataclass(frozen=True, slots=True)
class FaultRow:
    """Frames with one fault.

    Attributes:
        fault: what is wrong with them.
        frames: number of frames.
        flagged: share with a doubt.
        by_doubt: share with each doubt.
        largest_score: of all.
        below_zero_score: share with a score below 0.5.
    """

    fault: str
    frames: int
    flagged: float
    by_doubt: dict[str, float]
    largest_score: float
    below_zero_score: float


@dataclass(frozen=True, slots=True)
class Doubts:
    """All faults, and how many ordinary frames are doubted for nothing.

    Attributes:
        rows: one per fault.
        empty: noise, white, black and saturated frames together: the 0 class.
        to_flag: these and the striped ones together.
        false_flags: share of ordinary frames with a doubt; None where none were asked about.
        ordinary: how many ordinary frames there were.
    """

    rows: tuple[FaultRow, ...]
    empty: FaultRow
    to_flag: FaultRow
    false_flags: float | None
    ordinary: int

    def as_text(self) -> str:
        """The table for a terminal."""
        lines = [f"{'frames that nobody should score':36}{'frames':>8}{'flagged':>10}{'score at most':>15}{'< 0.5':>9}"]
        for row in (*self.rows, self.empty, self.to_flag):
            flags = ", ".join(f"{name} {100 * share:.0f} %" for name, share in row.by_doubt.items())
            lines.append(
                f"{row.fault:36}{row.frames:>8}{100 * row.flagged:>8.1f} %{row.largest_score:>15.2f}"
                f"{100 * row.below_zero_score:>7.1f} %   {flags}"
            )
        if self.false_flags is not None:
            lines.append(
                f"{'ordinary frames of the grouped test':36}{self.ordinary:>8}{100 * self.false_flags:>8.1f} %"
            )
        return "\n".join(lines)


def measure_doubts(
    scorer: Scorer,
    count: int,
    seed: int,
    track: Track,
    ordinary: Predictions | None = None,
) -> Doubts:
    """Judge `count` frames of each fault.

    Args:
        scorer: the scoring machine.
        count: frames of each fault, at least 1.
        seed: of the frames.
        track: shows progress.
        ordinary: what it said of ordinary frames.
    """
    judged: dict[Fault, list[FrameScore]] = {fault: [] for fault in FAULTS}
    frames = (frame for fault in FAULTS for frame in faulty_frames(fault, count, seed))
    for _ in track(range(count * len(FAULTS)), "faulty frames"):
        frame = next(frames)
        judged[frame.fault].append(scorer.judge(frame.image, frame.magnification))
    empty = [each for fault in EMPTY for each in judged[fault]]
    return Doubts(
        rows=tuple(_row(fault, found) for fault, found in judged.items()),
        empty=_row("all of the 0 class", empty),
        to_flag=_row("0 class and striped", empty + judged["striped"]),
        false_flags=float(ordinary.flagged.mean()) if ordinary is not None and ordinary.flagged is not None else None,
        ordinary=0 if ordinary is None else len(ordinary.score),
    )


def is_ordinary(frames: LabelledFrames) -> NDArray[np.bool_]:
    """Mask of a dataset's ordinary frames: recognisable, and plain, dark or bright; bool (N,)."""
    return np.asarray((frames.label > 0) & np.isin(frames.variant, _ORDINARY))


def _row(name: str, judged: Sequence[FrameScore]) -> FaultRow:
    flags = Counter(str(doubt) for each in judged for doubt in each.flags)
    return FaultRow(
        fault=name,
        frames=len(judged),
        flagged=sum(bool(each.flags) for each in judged) / len(judged),
        by_doubt={name: found / len(judged) for name, found in sorted(flags.items())},
        largest_score=max(each.score for each in judged),
        below_zero_score=sum(each.score < ZERO_SCORE for each in judged) / len(judged),
    )
