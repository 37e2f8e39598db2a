"""The figures that a training goes by, by hand: the loss, the learning rate, the report."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from semd.datasets.dataset import LabelledFrames
from semd.scoring.network import HeadOutputs
from semd.training.score.losses import expected_error_loss, rmse_loss
from semd.training.score.score_settings import ScoreTrainingConfig, paper_preset
from semd.training.score.score_training import rate_at
from semd.training.score.validation import report


def test_the_loss_is_the_root_mean_square_error_of_what_each_replica_drew() -> None:
    target = torch.tensor([4.0, 1.0])
    one = rmse_loss(torch.tensor([[1.0], [5.0]]), target, torch.ones(2, 1))
    assert float(one) == pytest.approx(math.sqrt((9 + 16) / 2))
    # The second replica drew the first frame twice and the second not at all.
    two = rmse_loss(torch.tensor([[1.0, 3.0], [5.0, 9.0]]), target, torch.tensor([[1.0, 2.0], [1.0, 0.0]]))
    assert float(two) == pytest.approx((math.sqrt(12.5) + 1.0) / 2, rel=1e-5)
    exact = torch.tensor([[2.0]], requires_grad=True)
    rmse_loss(exact, torch.tensor([2.0]), torch.ones(1, 1)).backward()
    assert torch.isfinite(exact.grad).all()


def test_the_expected_error_is_learned_without_moving_the_score() -> None:
    scores = torch.tensor([[3.0]], requires_grad=True)
    log_sigma = torch.zeros(1, 1, requires_grad=True)
    expected_error_loss(HeadOutputs(scores, log_sigma), torch.tensor([5.0])).backward()
    assert scores.grad is None
    # d/ds (s + e**2 / 2 exp(-2 s)) at s = 0, e = 2
    assert float(log_sigma.grad) == pytest.approx(1.0 - 4.0)


def test_the_rate_rises_and_falls_or_stays() -> None:
    config = ScoreTrainingConfig(warm_up=0.1, learning_rate=1e-3)
    assert rate_at(config, 0.0) < 1e-4
    assert rate_at(config, 0.1) == pytest.approx(1e-3)
    assert rate_at(config, 0.5) < 1e-3
    assert rate_at(config, 1.0) < 1e-5
    paper = paper_preset()
    assert {rate_at(paper, share) for share in (0.0, 0.5, 1.0)} == {2e-4}


def test_the_report_by_hand() -> None:
    score = np.array([9.6, 9.8, 8.0, 4.2], np.float32)
    frames = LabelledFrames(
        images=np.zeros((4, 1, 1), np.uint8),
        field_id=np.arange(4),
        split=np.array(["test"] * 4),
        image_split=np.array(["train"] * 4),
        sample=np.array(["grid", "tinball", "grid", "grid"]),
        magnification=np.array([500, 500, 1000, 1000], np.float32),
        label=np.array([10, 10, 8, 4]),
        score=score,
        variant=np.array(["normal"] * 4),
        blur_px=np.zeros(4, np.float32),
        spec={},
    )
    figures = report(frames, np.arange(4), np.array([9.0, 8.0, 9.0, 4.0]))
    assert figures.rmse == pytest.approx(math.sqrt((1 + 4 + 1 + 0) / 4))
    assert figures.mae == pytest.approx(1.0)
    assert figures.by_magnification == {
        "500.0": pytest.approx(math.sqrt(2.5)),
        "1000.0": pytest.approx(math.sqrt(0.5)),
    }
    assert figures.by_sample["tinball"] == pytest.approx(2.0)
    assert figures.sharp_mean == pytest.approx(8.5)
    assert figures.sharp_accepted == pytest.approx(0.5)
    assert figures.soft_accepted == pytest.approx(0.5)
