"""Validation of a network: RMSE per magnification, sample and label, and the errors at the threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from rich.progress import track

from semd.scoring.network import ScoringNetwork
from semd.scoring.preprocess import centre_crop, standardise
from semd.scoring.scorer import BEST_SCORE

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from semd.datasets.dataset import LabelledFrames

ACCEPT_SCORE = 9.0
_SHARP = 9.5
_NOT_SHARP = 8.5


@dataclass(frozen=True, slots=True)
class ScoringReport:
    """Errors of a network on some frames.

    Attributes:
        frames: number of frames.
        rmse: root mean square error against the integer labels, as in the paper.
        rmse_score: the same against the continuous score.
        mae: mean absolute error against the integer labels.
        by_magnification: RMSE against the labels for each magnification.
        by_sample: the same for each kind of sample.
        by_label: the same for each label.
        sharp_mean: mean prediction where the true score is at least 9.5.
        sharp_accepted: share of those predicted at 9.0 or above.
        soft_accepted: share predicted at 9.0 or above where the true score is below 8.5.
    """

    frames: int
    rmse: float
    rmse_score: float
    mae: float
    by_magnification: dict[str, float]
    by_sample: dict[str, float]
    by_label: dict[str, float]
    sharp_mean: float
    sharp_accepted: float
    soft_accepted: float


class NetworkOutputs(NamedTuple):
    """A network's features and outputs for B frames, on the CPU.

    Attributes:
        features: inputs of the heads, float32 (B, features).
        scores: of every replica, float32 (B, K).
        log_sigma: logarithm of the error every replica expects, float32 (B, K).
    """

    features: Tensor
    scores: Tensor
    log_sigma: Tensor


def forward_rows(
    network: ScoringNetwork,
    frames: LabelledFrames,
    rows: NDArray[np.int64],
    batch: int = 16,
    *,
    bf16: bool = False,
    progress: bool = False,
) -> NetworkOutputs:
    """Run a network on the centre crops of frames, in inference mode."""
    was_training = network.training
    network.eval()
    form, device = network.architecture, next(network.parameters()).device
    parts: list[NetworkOutputs] = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for start in track(range(0, len(rows), batch), "features", disable=not progress):
            part = rows[start : start + batch]
            crops = [standardise(centre_crop(frames.images[row], form.height_px, form.width_px)) for row in part]
            images = torch.from_numpy(np.stack(crops))[:, None].contiguous(memory_format=torch.channels_last)
            features = network.extract_features(images.to(device))
            answer = network.score_features(features, torch.from_numpy(frames.magnification[part]).to(device))
            parts.append(NetworkOutputs(features.cpu(), answer.scores.cpu(), answer.log_sigma.cpu()))
    network.train(was_training)
    return NetworkOutputs(*(torch.cat(column).clone() for column in zip(*parts, strict=True)))


def predict(
    network: ScoringNetwork, frames: LabelledFrames, rows: NDArray[np.int64], *, bf16: bool = False
) -> NDArray[np.float64]:
    """Scores 0..10 of some frames, float64 (len(rows),)."""
    mean = forward_rows(network, frames, rows, bf16=bf16).scores.mean(dim=1)
    return np.clip(mean.numpy().astype(np.float64), 0.0, BEST_SCORE)


def report(frames: LabelledFrames, rows: NDArray[np.int64], predicted: NDArray[np.float64]) -> ScoringReport:
    """Compare predictions, float64 (len(rows),), with the truth about those rows."""
    label, score = frames.label[rows].astype(np.float64), frames.score[rows].astype(np.float64)
    sharp, soft = score >= _SHARP, score < _NOT_SHARP
    return ScoringReport(
        frames=len(rows),
        rmse=_rms(predicted - label),
        rmse_score=_rms(predicted - score),
        mae=float(np.abs(predicted - label).mean()),
        by_magnification=_grouped(predicted - label, frames.magnification[rows]),
        by_sample=_grouped(predicted - label, frames.sample[rows]),
        by_label=_grouped(predicted - label, frames.label[rows]),
        sharp_mean=_share(predicted[sharp]),
        sharp_accepted=_share(predicted[sharp] >= ACCEPT_SCORE),
        soft_accepted=_share(predicted[soft] >= ACCEPT_SCORE),
    )


def _rms(error: NDArray[np.float64]) -> float:
    return float(np.sqrt((error**2).mean())) if error.size else float("nan")


def _share(values: NDArray[np.generic]) -> float:
    return float(values.astype(np.float64).mean()) if values.size else float("nan")


def _grouped(error: NDArray[np.float64], group: NDArray[np.generic]) -> dict[str, float]:
    return {str(value): _rms(error[group == value]) for value in np.unique(group)}
