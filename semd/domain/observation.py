"""One frame as the control machine remembers it."""

from __future__ import annotations

from dataclasses import dataclass

from semd.domain.axes import Parameters
from semd.domain.exposure import Exposure
from semd.domain.features import Features


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured on a frame's image.

    Attributes:
        score: the scoring machine's 0..10.
        features: AVG, GRD, VAR.
        exposure: clipping, level, contrast.
    """

    score: float
    features: Features
    exposure: Exposure


@dataclass(frozen=True, slots=True)
class Observation:
    """One frame: its parameters and, unless the image was unusable, what was measured on it."""

    frame: str
    parameters: Parameters
    measurement: Measurement | None
