"""What the scoring machine says of a frame: its score, how sure that is, and whether to trust it at all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class QualityFlag(StrEnum):
    """Why a score is not to be trusted; one word to grep for."""

    BLANK = "blank"
    SATURATED = "saturated"
    STRIPED = "striped"
    UNFAMILIAR = "unfamiliar"


@dataclass(frozen=True, slots=True)
class FrameScore:
    """A frame's score.

    Attributes:
        score: 0..10, as an expert would give.
        sigma: standard deviation of the score in points.
        flags: why the score must not end a run, in alphabetical order; empty for an ordinary frame.
        stripes: of a frame doubted as striped, the mean grey level of every eight scan lines from the top, changes
            slower than stripes taken off; else empty.
    """

    score: float
    sigma: float = 0.0
    flags: tuple[QualityFlag, ...] = ()
    stripes: tuple[float, ...] = ()
