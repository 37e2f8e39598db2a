"""Fine-tuning of the replica heads and, optionally, of the spectrum reader.

The convolutions are frozen, so their features are computed once; fine-tuning then takes seconds to minutes.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.progress import track

from semd.errors import ConfigError, TrainingError
from semd.training.score.losses import expected_error_loss, rmse_loss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from semd.scoring.network import ScoringNetwork


@dataclass(frozen=True, slots=True)
class FineTuning:
    """Settings of the fine-tuning.

    Attributes:
        steps: steps of the optimiser.
        batch: frames per step, sampled with replacement; 0 takes the full set.
        learning_rate: peak learning rate; decays to 0 along a cosine.
        warm_up: share of the steps in which the rate rises.
        weight_decay: decoupled, of AdamW.
        attachment: weight of the penalty on the relative mean square change of the weights, in points.
        seed: seed of the bootstrap, the batches and the mirroring.
        spectrum: train the spectrum reader too, where the network has one. Half of the spectra are then mirrored,
            drawn anew in each step: an augmentation that leaves the sharpness unchanged.
    """

    steps: int = 200
    batch: int = 0
    learning_rate: float = 1e-3
    warm_up: float = 0.0
    weight_decay: float = 0.0
    attachment: float = 0.2
    seed: int = 0
    spectrum: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with.

        Raises:
            ConfigError: no step, or a rate or cost out of range.
        """
        if self.steps < 1 or self.batch < 0 or not self.learning_rate > 0.0 or not 0.0 <= self.warm_up < 1.0:
            raise ConfigError(f"fine-tuning needs steps, a positive rate and a warm-up within 0..1: {self}")
        if not self.attachment >= 0.0 or not self.weight_decay >= 0.0:
            raise ConfigError(f"attachment and weight decay must not be negative: {self}")

    def rate_at(self, step: int) -> float:
        """Learning rate of a step."""
        rising = self.warm_up * self.steps
        if step < rising:
            return self.learning_rate * (step + 1.0) / (rising + 1.0)
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step - rising) / (self.steps - rising)))


@dataclass(frozen=True, slots=True)
class HeadFrames:
    """Training set of the heads: features instead of images.

    Attributes:
        features: inputs of the heads, from `extract_features`, float32 (N, features).
        magnification: in x, float32 (N,).
        target: true scores, float32 (N,).
        weight: how much each counts, float32 (N,).
    """

    features: Tensor
    magnification: Tensor
    target: Tensor
    weight: Tensor


def fine_tune(
    network: ScoringNetwork, frames: HeadFrames, tuning: FineTuning, *, progress: bool = False
) -> ScoringNetwork:
    """Return a copy of a network with its heads fine-tuned.

    Each replica has its own bootstrap sample of the frames, so that replicas keep disagreeing where data are scarce.

    Args:
        network: the network to start from; not modified.
        frames: the training set.
        tuning: settings of the optimiser.
        progress: True where to show a progress bar.

    Raises:
        TrainingError: there are no frames, or the loss is not finite.
    """
    if not len(frames.target):
        raise TrainingError("there are no frames to fine-tune on")
    tuned = copy.deepcopy(network)
    tuned.eval()
    heads = [*tuned.layers.parameters(), *tuned.expected_error.parameters()]
    if tuning.spectrum and tuned.spectrum is not None:
        heads += tuned.spectrum.parameters()
    before = [parameter.detach().clone() for parameter in heads]
    optimiser = torch.optim.AdamW(heads, lr=tuning.learning_rate, weight_decay=tuning.weight_decay)
    drawn = np.random.default_rng([tuning.seed, 47]).poisson(1.0, (len(frames.target), network.architecture.replicas))
    if network.architecture.replicas == 1:
        drawn = np.ones_like(drawn)
    weight = torch.from_numpy(drawn.astype(np.float32)) * frames.weight.unsqueeze(1)
    rng, count = np.random.default_rng([tuning.seed, 53]), len(frames.target)
    mirrors = np.random.default_rng([tuning.seed, 59])
    for step in track(range(tuning.steps), "heads", disable=not progress):
        optimiser.param_groups[0]["lr"] = tuning.rate_at(step)
        chosen = torch.from_numpy(rng.integers(0, count, tuning.batch) if tuning.batch else np.arange(count))
        features, target = frames.features[chosen], frames.target[chosen]
        if tuning.spectrum and tuned.spectrum is not None:
            is_mirrored = torch.from_numpy(mirrors.random((len(chosen), 1)) < 0.5)
            features = torch.where(is_mirrored, tuned.mirrored(features), features)
        answers = tuned.score_features(features, frames.magnification[chosen])
        error = rmse_loss(answers.scores, target, weight[chosen])
        if not math.isfinite(float(error.detach())):
            raise TrainingError(f"the loss became {float(error.detach())} in step {step}; lower the learning rate")
        optimiser.zero_grad(set_to_none=True)
        loss = error + expected_error_loss(answers, target)
        if tuning.attachment:
            loss = loss + tuning.attachment * _change(heads, before)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return tuned


def _change(now: Sequence[Tensor], before: Sequence[Tensor]) -> Tensor:
    """Mean square change of the weights, each tensor's relative to its own mean square."""
    parts = [
        (new - old).square().mean() / old.square().mean().clamp_min(1e-6) for new, old in zip(now, before, strict=True)
    ]
    return torch.stack(parts).mean()
