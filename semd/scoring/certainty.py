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


class Certainty(nn.Module):
    """Calibration of the uncertainty, measured after the training and stored with the weights.

    Two things:

    1. The heads' standard deviation times a factor, so that the interval of one standard deviation holds 68 % of
       the errors on fields that the training has not seen.
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
    def knows_distance(self) -> bool:
        """True where `fit_distance` has learned where training frames lie."""
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
        # The directions are divided by their spread; undo that to see what they leave over.
        lengths = self.directions.square().sum(dim=0).clamp_min(1e-12)
        rest = away - (along / lengths) @ self.directions.T
        share = along.square().mean(dim=1) + rest.square().mean(dim=1) / self.left_over.square()
        return torch.sqrt(0.5 * share)

    def is_strange(self, features: Tensor) -> Tensor:
        """Return True if frames are unlike what the network was trained on, bool (B,)."""
        return self.distance(features) > self.limit

    @torch.no_grad()
    def fit_sigma(self, scores: Tensor, log_sigma: Tensor, truth: Tensor) -> None:
        """Choose the factor on frames that were not trained on.

        Args:
            scores: replicas' scores, float32 (B, K).
            log_sigma: their expected errors, float32 (B, K).
            truth: true scores, float32 (B,).
        """
        self.sigma_factor.fill_(1.0)
        ratio = (scores.mean(dim=1) - truth).abs() / self.sigma(scores, log_sigma)
        self.sigma_factor.fill_(float(torch.quantile(ratio, _COVERED)))

    @torch.no_grad()
    def fit_distance(self, trained: Tensor, unseen: Tensor, false_share: float = 0.002) -> None:
        """Learn where training frames lie.

        Args:
            trained: features of training frames, float32 (B, features).
            unseen: features of other ordinary frames.
            false_share: share of these that may be called strange.
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
        self.limit.fill_(float(torch.quantile(self.distance(unseen), 1.0 - false_share)))


def _squashed(features: Tensor) -> Tensor:
    """Features on a scale on which the bright few do not outweigh the rest."""
    return torch.log1p(features.clamp_min(0.0))
