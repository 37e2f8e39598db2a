"""The reward, equation (6)."""

from __future__ import annotations

from dataclasses import dataclass

from semd.domain.exposure import ExposureRange
from semd.domain.observation import Measurement


@dataclass(frozen=True, slots=True)
class RewardWeights:
    """Weights of the reward's terms; c1 and c2 are not published.

    Attributes:
        c1: weight of GRD (normalised).
        c2: weight of VAR (normalised).
        c_exposure: weight of the distance from a good exposure; 0 in the preset `paper`. VAR alone pays for
            clipped, over-contrasted frames, and GRD for noise: this term takes that back.
    """

    c1: float = 0.5
    c2: float = 1.0
    c_exposure: float = 2.0


PAPER_WEIGHTS = RewardWeights(c1=1.0, c2=1.0, c_exposure=0.0)


def reward(measurement: Measurement, weights: RewardWeights, good: ExposureRange) -> float:
    """Equation (6): score + c1 GRD + c2 VAR, less the exposure's defect; in units of the score."""
    return (
        measurement.score
        + weights.c1 * measurement.features.grd_normalised
        + weights.c2 * measurement.features.var_normalised
        - weights.c_exposure * good.defect(measurement.exposure)
    )
