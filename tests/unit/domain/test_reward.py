"""Equation (6), term by term."""

from __future__ import annotations

import pytest

from semd.domain.exposure import Exposure, ExposureRange
from semd.domain.features import Features
from semd.domain.observation import Measurement
from semd.domain.reward import PAPER_WEIGHTS, RewardWeights, reward

GOOD = ExposureRange(max_clipped=0.04, min_level=60.0, max_level=195.0, min_contrast=90.0)
# normalised: GRD sqrt(63.75 / 255) = 0.5, VAR 51 / 127.5 = 0.4
FEATURES = Features(avg=120.0, grd=100 * 63.75, var=51.0**2, pixels=100)
FINE = Exposure(0.0, 0.0, 120.0, 150.0)
DARK = Exposure(0.14, 0.0, 30.0, 90.0)  # defect 4 * 0.10 + 30 / 60


@pytest.mark.parametrize(
    ("score", "exposure", "weights", "expected"),
    [
        (9.0, FINE, RewardWeights(0.0, 0.0, 0.0), 9.0),
        (9.0, FINE, RewardWeights(0.5, 1.0, 2.0), 9.0 + 0.25 + 0.4),
        (9.0, DARK, RewardWeights(0.5, 1.0, 2.0), 9.0 + 0.25 + 0.4 - 2.0 * 0.9),
        (0.0, DARK, RewardWeights(0.0, 0.0, 1.0), -0.9),
        (4.0, FINE, PAPER_WEIGHTS, 4.9),
        (4.0, DARK, PAPER_WEIGHTS, 4.9),  # the paper's reward does not know the exposure
    ],
)
def test_reward(score: float, exposure: Exposure, weights: RewardWeights, expected: float) -> None:
    assert reward(Measurement(score, FEATURES, exposure), weights, GOOD) == pytest.approx(expected)
