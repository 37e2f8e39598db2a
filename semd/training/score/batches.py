"""Batches of an epoch: shuffled, cropped and augmented frames, with each replica's bootstrap weights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from semd.scoring.preprocess import standardise
from semd.training.score.augmentation import photometric, random_crops

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from semd.datasets.dataset import LabelledFrames
    from semd.training.score.process_group import ProcessGroup
    from semd.training.score.score_settings import ScoreTrainingConfig, Stage

_PREPARED_BATCHES = 3


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Frames of one step.

    Attributes:
        images: standardised crops, float32 (B, 1, H, W).
        magnification: in x, float32 (B,).
        target: what the network is to say, float32 (B,).
        weight: how often each replica drew each frame, float32 (B, K).
    """

    images: Tensor
    magnification: Tensor
    target: Tensor
    weight: Tensor

    def to(self, device: torch.device) -> TrainingBatch:
        """The same on a device."""
        return TrainingBatch(*(part.to(device) for part in (self.images, self.magnification, self.target, self.weight)))


def batches(
    config: ScoreTrainingConfig,
    epoch: int,
    group: ProcessGroup,
    stage: Stage,
    frames: LabelledFrames,
    train_rows: NDArray[np.int64],
) -> Iterator[TrainingBatch]:
    """Batches of one epoch, prepared ahead by another thread; each has its own random stream.

    Args:
        config: seed, augmentation and target.
        epoch: the epoch, from 0.
        group: processes that share the frames.
        stage: size of the crops and of the batch.
        frames: the dataset.
        train_rows: rows of it to learn from.
    """
    drawn = _resampled(config, frames)
    order = group.share(np.random.default_rng([config.seed, epoch]).permutation(train_rows))
    parts = [order[k : k + stage.batch] for k in range(0, len(order), stage.batch)]
    # TrainingBatch statistics of a lone leftover frame are useless; the paper's batch of 1 is meant.
    if len(parts) > 1 and len(parts[-1]) < min(stage.batch, 4):
        parts.pop()

    def prepare(number: int) -> TrainingBatch:
        rng = np.random.default_rng([config.seed, epoch, number, group.rank])
        return _prepare(config, stage, frames, parts[number], drawn, rng)

    with ThreadPoolExecutor(1) as pool:
        prepared = [pool.submit(prepare, number) for number in range(min(_PREPARED_BATCHES, len(parts)))]
        for number in range(_PREPARED_BATCHES, len(parts) + _PREPARED_BATCHES):
            if number < len(parts):
                prepared.append(pool.submit(prepare, number))
            if prepared:
                yield prepared.pop(0).result()


def _resampled(config: ScoreTrainingConfig, frames: LabelledFrames) -> NDArray[np.float32]:
    """Bootstrap weights: how often each replica draws each frame's field, float32 (N, K).

    Drawing n fields out of n with replacement takes each about Poisson(1) times.
    """
    replicas = config.architecture.replicas
    if replicas == 1:
        return np.ones((len(frames), 1), np.float32)
    known, place = np.unique(frames.field_id, return_inverse=True)
    drawn = np.random.default_rng([config.seed, 41]).poisson(1.0, (len(known), replicas))
    return drawn[place].astype(np.float32)


def _prepare(
    config: ScoreTrainingConfig,
    stage: Stage,
    frames: LabelledFrames,
    rows: NDArray[np.int64],
    drawn: NDArray[np.float32],
    rng: np.random.Generator,
) -> TrainingBatch:
    crops = random_crops(frames.images, rows, stage.height_px, stage.width_px, rng, stage.tries)
    light = (
        photometric(crops, rng, config.photometric, config.photometric_noise)
        if config.photometric
        else standardise(crops)
    )
    target = frames.score[rows] if config.target == "score" else frames.label[rows].astype(np.float32)
    return TrainingBatch(
        images=torch.from_numpy(light)[:, None].contiguous(memory_format=torch.channels_last),
        magnification=torch.from_numpy(frames.magnification[rows]),
        target=torch.from_numpy(np.ascontiguousarray(target)),
        weight=torch.from_numpy(drawn[rows]),
    )
