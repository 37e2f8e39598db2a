"""Uncertainty: the standard deviation covers the errors, and features out of distribution are recognised."""

from __future__ import annotations

import math

import pytest
import torch

from semd.scoring.uncertainty import UncertaintyCalibration


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_sigma_adds_disagreement_and_expected_error_in_quadrature() -> None:
    scores = torch.tensor([[4.0, 6.0]])  # they disagree by 1 about 5
    log_sigma = torch.log(torch.tensor([[1.0, math.sqrt(5.0)]]))  # mean square 3
    assert float(UncertaintyCalibration(4).sigma(scores, log_sigma)) == pytest.approx(2.0)


def test_the_fitted_interval_holds_68_percent(generator: torch.Generator) -> None:
    certainty = UncertaintyCalibration(4)
    truth = torch.rand(4000, generator=generator) * 10
    true_sigma = 0.2 + 0.6 * torch.rand(4000, generator=generator)
    scores = truth + true_sigma * torch.randn(4000, generator=generator)
    # The heads agree, and think themselves three times as good as they are.
    told, expected = scores.unsqueeze(1).expand(-1, 3), torch.log(true_sigma / 3).unsqueeze(1).expand(-1, 3)
    certainty.fit_sigma(told[:2000], expected[:2000], truth[:2000])
    inside = (scores - truth).abs()[2000:] < certainty.sigma(told, expected)[2000:]
    assert 0.65 < float(inside.float().mean()) < 0.72
    assert float(certainty.sigma_factor) == pytest.approx(3.0, rel=0.1)


def _features(count: int, generator: torch.Generator) -> torch.Tensor:
    """Features that vary along ten directions and hardly along the other 90."""
    mixing = torch.randn(10, 100, generator=torch.Generator().manual_seed(9))
    drawn = torch.randn(count, 10, generator=generator) @ mixing * 0.2
    return torch.expm1((2.0 + drawn + 0.01 * torch.randn(count, 100, generator=generator)).clamp_min(0.0))


def test_ordinary_features_are_familiar_and_others_are_not(generator: torch.Generator) -> None:
    certainty = UncertaintyCalibration(100)
    certainty.fit_distance(_features(3000, generator), _features(1000, generator), false_share=0.01)
    ordinary = _features(2000, generator)
    assert float(certainty.is_out_of_distribution(ordinary).float().mean()) < 0.03
    assert float(certainty.distance(ordinary).median()) == pytest.approx(1.0, abs=0.25)
    far = ordinary * torch.exp(0.3 * torch.randn(2000, 100, generator=generator))
    assert bool(certainty.is_out_of_distribution(far).all())


def test_before_it_is_fitted_nothing_is_strange(generator: torch.Generator) -> None:
    assert not bool(UncertaintyCalibration(100).is_out_of_distribution(_features(10, generator)).any())
