"""Losses: RMSE of the scores (1) and the Gaussian negative log-likelihood of the predicted sigma."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from semd.scoring.network import HeadOutputs


def rmse_loss(scores: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Root mean square error over a batch, equation (1), in the mean of the replicas.

    Args:
        scores: float32 (B, K).
        target: float32 (B,).
        weight: how often each replica has drawn each frame's field, float32 (B, K).
    """
    squares = weight * (scores - target.unsqueeze(1)) ** 2
    # Small constants keep the slope finite at 0 and a replica that has drawn nothing out of it.
    mean = squares.sum(dim=0) / weight.sum(dim=0).clamp_min(1e-6)
    return torch.sqrt(mean + 1e-8).mean()


def expected_error_loss(answers: HeadOutputs, target: Tensor) -> Tensor:
    """Negative log-likelihood of the errors under the predicted sigma; trains the prediction of sigma alone."""
    squares = (answers.scores.detach() - target.unsqueeze(1)) ** 2
    return (answers.log_sigma + 0.5 * squares * torch.exp(-2.0 * answers.log_sigma)).mean()
