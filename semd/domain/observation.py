"""One frame as the run remembers it: its parameters and its measurement."""

from __future__ import annotations

from dataclasses import dataclass

from semd.domain.axes import Parameters
from semd.domain.exposure import Exposure
from semd.domain.features import Features
from semd.domain.frame_score import QualityFlag


@dataclass(frozen=True, slots=True)
class Measurement:
    """Measurement of a frame's image.

    Attributes:
        score: the scoring machine's 0..10.
        features: AVG, GRD, VAR.
        exposure: clipping, level, contrast.
        sigma: the score's standard deviation in points.
        flags: quality flags, the reasons not to trust the score; empty for an ordinary frame.
        stripes: stripe profile of a frame flagged as striped, see `FrameScore`; else empty.
    """

    score: float
    features: Features
    exposure: Exposure
    sigma: float = 0.0
    flags: tuple[QualityFlag, ...] = ()
    stripes: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """One frame.

    Attributes:
        frame: its stem.
        parameters: settings that it was taken with.
        measurement: None where the image was unusable.
    """

    frame: str
    parameters: Parameters
    measurement: Measurement | None
