"""Feature cache: features of the training frames, computed once, since the convolutions take most of the time."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.progress import track

from semd.training.score.validation import forward_rows

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from semd.datasets.dataset import LabelledFrames
    from semd.scoring.network import ScoringNetwork

_PART_FRAMES = 2000


def cached_features(
    network: ScoringNetwork,
    frames: LabelledFrames,
    rows: NDArray[np.int64],
    directory: Path,
    *,
    bf16: bool,
    progress: bool,
) -> Tensor:
    """Return the features of frames, computed once and cached on disk: float32 (len(rows), features).

    Args:
        network: the network; only its convolutions are used.
        frames: the dataset.
        rows: rows of the dataset.
        directory: the cache; created. A run that was killed resumes after the last finished part.
        bf16: compute the convolutions in bfloat16.
        progress: True where to show a progress bar.
    """
    directory.mkdir(parents=True, exist_ok=True)
    name = _fingerprint(network, frames, rows)
    features: list[Tensor] = []
    parts = range(0, len(rows), _PART_FRAMES)
    for number, start in enumerate(track(parts, "features", disable=not progress)):
        path = directory / f"{name}-{number:04d}.npy"
        if not path.is_file():
            part = forward_rows(network, frames, rows[start : start + _PART_FRAMES], bf16=bf16).features
            unfinished = path.with_suffix(".partial")
            with unfinished.open("wb") as file:
                np.save(file, part.numpy(), allow_pickle=False)
            unfinished.replace(path)
        features.append(torch.from_numpy(np.load(path, allow_pickle=False)))
    return torch.cat(features)


def _fingerprint(network: ScoringNetwork, frames: LabelledFrames, rows: NDArray[np.int64]) -> str:
    """Cache key: hash of the convolutions and of the frames."""
    digest = hashlib.sha256(rows.tobytes())
    for part in (frames.field_id, frames.magnification, frames.score):
        digest.update(np.ascontiguousarray(part).tobytes())
    for value in network.backbone.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
