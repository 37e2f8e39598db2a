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
from semd.training.score.validation import Judged, judge_rows

MAX_RMSE_RISE = 0.05
"""Points by which the dataset's test RMSE may rise."""
_CHUNK = 32


@dataclass(frozen=True, slots=True)
class LearningPlan:
    """Settings of the learning from sweeps.

    Attributes:
        tuning: of the heads.
        replay: training frames of the dataset that are gone through again, so that nothing is forgotten; they weigh
            as much as the sweeps.
        tested: test frames of the dataset that are looked at.
    """

    tuning: FineTuning
    replay: int = 400
    tested: int = 600


@dataclass(frozen=True, slots=True)
class FineTuningResult:
    """Before and after.

    Attributes:
        weights: the fine-tuned network as a file.
        learned: frames of sweeps that were learned from.
        held_out: frames of sweeps that were not.
        sweep_before, sweep_after: RMSE on these, against the continuous score.
        data_before, data_after: RMSE on the dataset's test frames against their labels; None without a dataset.
        unfamiliar: share of the sweeps' frames that the network calls unlike its training.
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
        """True where the new weights are better on the instrument's frames and about as good on the dataset's."""
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
        network: is left as it is.
        sweeps: frames with labels of the instrument.
        data: frames that must not be forgotten, or None.
        plan: how.
        progress: True where to show a progress bar.

    Raises:
        TrainingError: nothing to learn from, or nothing kept aside.
    """
    learned, held_out = sweeps.rows("train"), sweeps.rows("image_test")
    if not len(learned) or not len(held_out):
        raise TrainingError(
            f"{len(learned)} frames to learn from and {len(held_out)} kept aside: both are needed; sweep more finely"
        )
    own = _judge(network, sweeps, learned, "features of the sweep", progress)
    aside = _judge(network, sweeps, held_out, "features kept aside", progress)
    parts = [_head_frames(own, sweeps, learned, 1.0)]
    tested: NDArray[np.int64] | None = None
    seen: Judged | None = None
    if data is not None:
        replayed, tested = _thinned(data.rows("train"), plan.replay), _thinned(data.rows("test"), plan.tested)
        if not len(replayed) or not len(tested):
            raise TrainingError("the dataset has no frames on one side of its split")
        again = _judge(network, data, replayed, "features of the dataset", progress)
        parts.append(_head_frames(again, data, replayed, len(learned) / len(replayed)))
        seen = _judge(network, data, tested, "test of the dataset", progress)
    weights = network_to_bytes(fine_tune(network, _joined(parts), plan.tuning))
    # Measured is what is stored: its numbers are rounded to half precision.
    tuned = network_from_bytes(weights)
    strange = torch.cat([network.is_strange(part.seen) for part in (own, aside)])
    return FineTuningResult(
        weights=weights,
        learned=len(learned),
        held_out=len(held_out),
        sweep_before=_rmse(network, aside, sweeps.magnification[held_out], sweeps.score[held_out]),
        sweep_after=_rmse(tuned, aside, sweeps.magnification[held_out], sweeps.score[held_out]),
        data_before=_data_rmse(network, seen, data, tested),
        data_after=_data_rmse(tuned, seen, data, tested),
        unfamiliar=float(strange.float().mean()),
    )


def _judge(
    network: ScoringNetwork, frames: LabelledFrames, rows: NDArray[np.int64], what: str, progress: bool
) -> Judged:
    chunks = [rows[k : k + _CHUNK] for k in range(0, len(rows), _CHUNK)]
    shown = track(chunks, what, console=Console(stderr=True), disable=not progress)
    judged = [judge_rows(network, frames, chunk) for chunk in shown]
    return Judged(*(torch.cat(column) for column in zip(*judged, strict=True)))


def _head_frames(judged: Judged, frames: LabelledFrames, rows: NDArray[np.int64], weight: float) -> HeadFrames:
    return HeadFrames(
        seen=judged.seen,
        magnification=torch.from_numpy(frames.magnification[rows]),
        target=torch.from_numpy(frames.score[rows]),
        weight=torch.full((len(rows),), weight),
    )


def _joined(parts: list[HeadFrames]) -> HeadFrames:
    return HeadFrames(
        seen=torch.cat([part.seen for part in parts]),
        magnification=torch.cat([part.magnification for part in parts]),
        target=torch.cat([part.target for part in parts]),
        weight=torch.cat([part.weight for part in parts]),
    )


def _data_rmse(
    network: ScoringNetwork, seen: Judged | None, data: LabelledFrames | None, rows: NDArray[np.int64] | None
) -> float | None:
    if seen is None or data is None or rows is None:
        return None
    return _rmse(network, seen, data.magnification[rows], data.label[rows].astype(np.float32))


@torch.no_grad()
def _rmse(
    network: ScoringNetwork, judged: Judged, magnification: NDArray[np.float32], truth: NDArray[np.float32]
) -> float:
    """RMSE of a network's heads on features; those of the old network are the new one's, too."""
    scores = network.judge(judged.seen, torch.from_numpy(magnification)).scores.mean(dim=1).clamp(0.0, BEST_SCORE)
    return float((scores - torch.from_numpy(truth)).square().mean().sqrt())


def _thinned(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most `most` rows, evenly spread."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
