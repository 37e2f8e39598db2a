"""Interface of a microscope, simulated or real, for training and closed-loop evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from semd.domain.axes import Axis, Parameters
from semd.domain.exposure import measure_exposure
from semd.domain.features import grey_histogram, measure_features
from semd.domain.observation import Measurement, Observation

Score = Callable[[NDArray[np.uint8], float], float]
"""Scoring function: frame uint8 (480, 640) and magnification -> score 0..10."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame with its parameters and, from a simulator, its ground truth.

    Attributes:
        image: uint8 (480, 640), grey.
        parameters: values of its parameter text.
        quality: true focus quality, 1..10; NaN on a real instrument.
        exposure_ok: True if brightness and contrast truly suit the field; False on a real instrument.
        wd_error_mm: working distance minus the focused one; NaN on a real instrument.
    """

    image: NDArray[np.uint8]
    parameters: Parameters
    quality: float = float("nan")
    exposure_ok: bool = False
    wd_error_mm: float = float("nan")


class Microscope(Protocol):
    """Microscope on one field of view."""

    def scan(self) -> Shot:
        """Scan a frame at the current settings."""

    def apply(self, targets: Mapping[Axis, float]) -> None:
        """Move the given axes to absolute targets: mm for WD, the instrument's scale otherwise."""


def observe(shot: Shot, score: Score, frame: str) -> Observation:
    """Measure score, AVG, GRD, VAR and exposure of a shot as the daemon does."""
    histogram = grey_histogram(shot.image)
    measurement = Measurement(
        score=score(shot.image, shot.parameters.magnification),
        features=measure_features(shot.image, histogram),
        exposure=measure_exposure(histogram),
    )
    return Observation(frame=frame, parameters=shot.parameters, measurement=measurement)
