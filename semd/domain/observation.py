"""One frame as the control machine remembers it."""

from __future__ import annotations

from dataclasses import dataclass

from semd.domain.axes import Parameters
from semd.domain.exposure import Exposure
from semd.domain.features import Features
from semd.domain.frame_score import QualityFlag


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured on a frame's image.

    Attributes:
        score: the scoring machine's 0..10.
        features: AVG, GRD, VAR.
        exposure: clipping, level, contrast.
        sigma: the score's standard deviation in points.
        flags: why the score is not to be trusted; mostly none.
        stripes: how a frame doubted as striped brightens and darkens from the top down, see `FrameScore`; else empty.
    """

    score: float
    features: Features
    exposure: Exposure
    sigma: float = 0.0
    flags: tuple[QualityFlag, ...] = ()
    stripes: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """One frame: its parameters and, unless the image was unusable, what was measured on it."""

    frame: str
    parameters: Parameters
    measurement: Measurement | None
