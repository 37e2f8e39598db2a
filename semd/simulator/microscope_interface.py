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
"""The scoring machine: frame uint8 (480, 640) and magnification to 0..10."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One scanned frame.

    Attributes:
        image: uint8 (480, 640), grey.
        parameters: what its parameter text would say.
        quality: true focus quality 1..10; not a number where nobody knows.
        exposure_ok: True where brightness and contrast suit the field, by the truth; False where nobody knows.
        wd_error_mm: working distance less the focused one; not a number where nobody knows.
    """

    image: NDArray[np.uint8]
    parameters: Parameters
    quality: float = float("nan")
    exposure_ok: bool = False
    wd_error_mm: float = float("nan")


class Microscope(Protocol):
    """A microscope on one field of view."""

    def scan(self) -> Shot:
        """Scan with the present settings."""

    def apply(self, targets: Mapping[Axis, float]) -> None:
        """Move the axes named to absolute targets: mm for WD, the instrument's scale otherwise."""


def observe(shot: Shot, score: Score, frame: str) -> Observation:
    """Measure a shot as the daemon does: score, AVG, GRD, VAR and exposure."""
    histogram = grey_histogram(shot.image)
    measurement = Measurement(
        score=score(shot.image, shot.parameters.magnification),
        features=measure_features(shot.image, histogram),
        exposure=measure_exposure(histogram),
    )
    return Observation(frame=frame, parameters=shot.parameters, measurement=measurement)
