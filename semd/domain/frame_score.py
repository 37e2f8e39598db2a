"""Score of a frame with its uncertainty and its quality flags."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class QualityFlag(StrEnum):
    """Reason not to trust a score, one word to grep for.

    `BLANK`: nothing can be recognised. `SATURATED`: most pixels are black or white. `STRIPED`: bright and dark lines as
    of charging. `UNFAMILIAR`: out of the distribution that the scoring machine was trained on.
    """

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
        flags: quality flags in alphabetical order; a flagged frame never ends a run as DONE.
        stripes: stripe profile of a frame flagged as striped: the mean grey level of every eight scan lines from the
            top, with changes slower than stripes subtracted; else empty.
    """

    score: float
    sigma: float = 0.0
    flags: tuple[QualityFlag, ...] = ()
    stripes: tuple[float, ...] = ()
