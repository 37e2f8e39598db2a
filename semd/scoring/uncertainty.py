"""Uncertainty of a score: a calibrated standard deviation, and a distance from the training distribution."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

_DIRECTIONS = 48
_COVERED = 0.683
_NO_LIMIT = 1e30


class UncertaintyCalibration(nn.Module):
    """Calibration of the uncertainty, measured after the training and stored with the weights.

    Two things:

    1. The heads' standard deviation times a factor, so that the interval of one standard deviation holds 68 % of
       the errors on the validation set.
    2. A distance of a frame's features from those of the training frames: Mahalanobis's along the directions in
       which these vary most, and along all others the length of what is left over, in its own spread.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("sigma_factor", torch.ones(()))
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("directions", torch.zeros(features, _DIRECTIONS))
        self.register_buffer("left_over", torch.ones(()))
        self.register_buffer("limit", torch.full((), _NO_LIMIT))
        self.sigma_factor: Tensor
        self.centre: Tensor
        self.directions: Tensor
        self.left_over: Tensor
        self.limit: Tensor

    @property
    def has_distance_limit(self) -> bool:
        """True once `fit_distance` has set the limit."""
        return bool(self.limit < _NO_LIMIT)

    def sigma(self, scores: Tensor, log_sigma: Tensor) -> Tensor:
        """Standard deviation of the mean score: replicas, float32 (B, K) each, to float32 (B,)."""
        disagreement = scores.var(dim=1, unbiased=False)
        expected = torch.exp(2.0 * log_sigma).mean(dim=1)
        return self.sigma_factor * torch.sqrt(expected + disagreement)

    def distance(self, features: Tensor) -> Tensor:
        """Distance from the training frames, float32 (B,); about 1 for an ordinary frame."""
        away = _squashed(features) - self.centre
        along = away @ self.directions
        # The directions are divided by their spread; undo that before computing the residual.
        lengths = self.directions.square().sum(dim=0).clamp_min(1e-12)
        rest = away - (along / lengths) @ self.directions.T
        share = along.square().mean(dim=1) + rest.square().mean(dim=1) / self.left_over.square()
        return torch.sqrt(0.5 * share)

    def is_out_of_distribution(self, features: Tensor) -> Tensor:
        """True where a frame is out of distribution, bool (B,)."""
        return self.distance(features) > self.limit

    @torch.no_grad()
    def fit_sigma(self, scores: Tensor, log_sigma: Tensor, truth: Tensor) -> None:
        """Fit the factor on the validation set.

        Args:
            scores: replicas' scores, float32 (B, K).
            log_sigma: their expected errors, float32 (B, K).
            truth: true scores, float32 (B,).
        """
        self.sigma_factor.fill_(1.0)
        ratio = (scores.mean(dim=1) - truth).abs() / self.sigma(scores, log_sigma)
        self.sigma_factor.fill_(float(torch.quantile(ratio, _COVERED)))

    @torch.no_grad()
    def fit_distance(self, trained: Tensor, held_out: Tensor, false_share: float = 0.002) -> None:
        """Fit the distribution of the training frames and the limit of the distance.

        Args:
            trained: features of training frames, float32 (B, features).
            held_out: features of other ordinary frames.
            false_share: share of these that may be flagged as out of distribution.
        """
        squashed = _squashed(trained)
        self.centre.copy_(squashed.mean(dim=0))
        away = squashed - self.centre
        _, spread, directions = torch.linalg.svd(away, full_matrices=False)
        count = min(_DIRECTIONS, len(spread))
        self.directions.zero_()
        self.directions[:, :count] = (directions[:count] / (spread[:count, None] / math.sqrt(len(away)))).T
        rest = away - (away @ directions[:count].T) @ directions[:count]
        self.left_over.fill_(max(float(rest.square().mean().sqrt()), 1e-6))
        self.limit.fill_(float(torch.quantile(self.distance(held_out), 1.0 - false_share)))


def _squashed(features: Tensor) -> Tensor:
    """Compress features, so that a few large ones do not dominate."""
    return torch.log1p(features.clamp_min(0.0))
