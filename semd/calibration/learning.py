"""Learning from sweeps: the heads are fine-tuned and compared on hold-out frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from semd.datasets.dataset import LabelledFrames
from semd.errors import TrainingError
from semd.scoring.network import ScoringNetwork
from semd.scoring.scorer import BEST_SCORE
from semd.scoring.stored import network_from_bytes, network_to_bytes
from semd.training.score.finetune import FineTuning, HeadFrames, fine_tune
from semd.training.score.validation import NetworkOutputs, forward_rows

MAX_RMSE_RISE = 0.05
"""Largest accepted rise of the RMSE on the dataset's test frames, in points; chosen."""
_CHUNK = 32


@dataclass(frozen=True, slots=True)
class LearningPlan:
    """Settings of the learning from sweeps.

    Attributes:
        tuning: settings of the fine-tuning.
        replay: number of training frames of the dataset that are replayed to prevent forgetting; together they weigh
            as much as the sweeps.
        tested: number of test frames of the dataset.
    """

    tuning: FineTuning
    replay: int = 400
    tested: int = 600


@dataclass(frozen=True, slots=True)
class FineTuningResult:
    """Result of the fine-tuning, with errors before and after.

    Attributes:
        weights: the fine-tuned network as bytes of a file.
        learned: number of sweep frames in the training set.
        held_out: number of sweep frames in the hold-out set.
        sweep_before, sweep_after: RMSE on the hold-out set against the continuous score.
        data_before, data_after: RMSE on the dataset's test frames against their labels; None without a dataset.
        unfamiliar: share of the sweep frames that are out of distribution.
    """

    weights: bytes
    learned: int
    held_out: int
    sweep_before: float
    sweep_after: float
    data_before: float | None
    data_after: float | None
    unfamiliar: float

    @property
    def helped(self) -> bool:
        """True if the new weights are better on the hold-out set and at most `MAX_RMSE_RISE` worse on the dataset."""
        if not self.sweep_after < self.sweep_before:
            return False
        return (
            self.data_before is None or self.data_after is None or self.data_after <= self.data_before + MAX_RMSE_RISE
        )


def learn_from_sweeps(
    network: ScoringNetwork,
    sweeps: LabelledFrames,
    data: LabelledFrames | None,
    plan: LearningPlan,
    *,
    progress: bool = True,
) -> FineTuningResult:
    """Fine-tune a network's heads on the `train` rows of sweeps and measure on their `image_test` rows.

    Args:
        network: the network; it is not changed.
        sweeps: labelled frames of the instrument.
        data: dataset whose accuracy must be kept, or None.
        plan: settings.
        progress: True to show progress bars.

    Raises:
        TrainingError: the training set or the hold-out set is empty.
    """
    learned, held_out = sweeps.rows("train"), sweeps.rows("image_test")
    if not len(learned) or not len(held_out):
        raise TrainingError(
            f"{len(learned)} training frames and {len(held_out)} hold-out frames: both are needed; sweep more finely"
        )
    own = _forward(network, sweeps, learned, "features of the sweep", progress)
    held_out_outputs = _forward(network, sweeps, held_out, "features of the hold-out set", progress)
    parts = [_head_frames(own, sweeps, learned, 1.0)]
    tested: NDArray[np.int64] | None = None
    data_outputs: NetworkOutputs | None = None
    if data is not None:
        replay, data_outputs, tested = _replay(network, data, plan, len(learned), progress)
        parts.append(replay)
    weights = network_to_bytes(fine_tune(network, _joined(parts), plan.tuning))
    # Measure the network as stored, with weights rounded to half precision.
    tuned = network_from_bytes(weights)
    magnification, truth = sweeps.magnification[held_out], sweeps.score[held_out]
    is_out = torch.cat([network.is_out_of_distribution(part.features) for part in (own, held_out_outputs)])
    return FineTuningResult(
        weights=weights,
        learned=len(learned),
        held_out=len(held_out),
        sweep_before=_rmse(network, held_out_outputs, magnification, truth),
        sweep_after=_rmse(tuned, held_out_outputs, magnification, truth),
        data_before=_data_rmse(network, data_outputs, data, tested),
        data_after=_data_rmse(tuned, data_outputs, data, tested),
        unfamiliar=float(is_out.float().mean()),
    )


def _replay(
    network: ScoringNetwork, data: LabelledFrames, plan: LearningPlan, sweep_frames: int, progress: bool
) -> tuple[HeadFrames, NetworkOutputs, NDArray[np.int64]]:
    """Prepare the dataset's part of the fine-tuning.

    Returns:
        Replayed training frames with the total weight of the sweep frames, features of the test frames, and their rows.
    """
    replayed, tested = _thinned(data.rows("train"), plan.replay), _thinned(data.rows("test"), plan.tested)
    if not len(replayed) or not len(tested):
        raise TrainingError("the training or the test split of the dataset is empty")
    again = _forward(network, data, replayed, "features of the dataset", progress)
    replay = _head_frames(again, data, replayed, sweep_frames / len(replayed))
    return replay, _forward(network, data, tested, "test of the dataset", progress), tested


def _forward(
    network: ScoringNetwork, frames: LabelledFrames, rows: NDArray[np.int64], title: str, progress: bool
) -> NetworkOutputs:
    chunks = [rows[k : k + _CHUNK] for k in range(0, len(rows), _CHUNK)]
    shown = track(chunks, title, console=Console(stderr=True), disable=not progress)
    outputs = [forward_rows(network, frames, chunk) for chunk in shown]
    return NetworkOutputs(*(torch.cat(column) for column in zip(*outputs, strict=True)))


def _head_frames(outputs: NetworkOutputs, frames: LabelledFrames, rows: NDArray[np.int64], weight: float) -> HeadFrames:
    return HeadFrames(
        features=outputs.features,
        magnification=torch.from_numpy(frames.magnification[rows]),
        target=torch.from_numpy(frames.score[rows]),
        weight=torch.full((len(rows),), weight),
    )


def _joined(parts: list[HeadFrames]) -> HeadFrames:
    return HeadFrames(
        features=torch.cat([part.features for part in parts]),
        magnification=torch.cat([part.magnification for part in parts]),
        target=torch.cat([part.target for part in parts]),
        weight=torch.cat([part.weight for part in parts]),
    )


def _data_rmse(
    network: ScoringNetwork,
    data_outputs: NetworkOutputs | None,
    data: LabelledFrames | None,
    rows: NDArray[np.int64] | None,
) -> float | None:
    if data_outputs is None or data is None or rows is None:
        return None
    return _rmse(network, data_outputs, data.magnification[rows], data.label[rows].astype(np.float32))


@torch.no_grad()
def _rmse(
    network: ScoringNetwork, outputs: NetworkOutputs, magnification: NDArray[np.float32], truth: NDArray[np.float32]
) -> float:
    """RMSE of a network's heads on features, which are the same for the old and the new network."""
    answer = network.score_features(outputs.features, torch.from_numpy(magnification))
    scores = answer.scores.mean(dim=1).clamp(0.0, BEST_SCORE)
    return float((scores - torch.from_numpy(truth)).square().mean().sqrt())


def _thinned(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Select at most `most` rows, evenly spaced."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
