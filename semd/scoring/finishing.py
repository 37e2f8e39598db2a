"""After the last pass: the heads learn on from the finished features, and certainty is measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from semd.scoring.evaluation import judge_rows
from semd.scoring.finetune import FineTuning, HeadFrames, fine_tune

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from semd.scoring.dataset import LabelledFrames
    from semd.scoring.network import ScoringNetwork

# Long enough for the heads to settle; they start from where the passes left them.
_PASSES = 60
_BATCH = 512
_RATE = 5e-4
_FAMILIAR_FRAMES = 4000
# The features of all frames would take half an hour on two cores.
_LESSON_FRAMES = 16000


def finish(
    network: ScoringNetwork,
    frames: LabelledFrames,
    trained: NDArray[np.int64],
    unseen: NDArray[np.int64],
    *,
    seed: int,
    bf16: bool,
    progress: bool,
) -> ScoringNetwork:
    """The network with heads fitted to its finished features, and with its certainty measured.

    Through the passes the heads chase features that change under them. Once these stand still, a minute of the
    heads alone is worth a pass or more. They are kept only if that helps on frames that were not trained on.

    Args:
        network: the best of the passes.
        frames: the dataset.
        trained: rows that were trained on; of very many an even share is taken.
        unseen: rows of fields that were not.
        seed: of the heads' batches.
        bf16: compute the training rows' features in bfloat16.
        progress: whether to show a progress bar.
    """
    trained = _even(trained, _LESSON_FRAMES)
    # The papers' 0, a frame with nothing in it, is neither ordinary nor one to be in doubt about.
    familiar = _even(trained[frames.label[trained] > 0], _FAMILIAR_FRAMES)
    seen = judge_rows(network, frames, trained, bf16=bf16, progress=progress)
    new = judge_rows(network, frames, unseen)
    lesson = HeadFrames(seen.features, *_facts(frames, trained), weight=torch.ones(len(trained)))
    steps = math.ceil(_PASSES * len(trained) / _BATCH)
    tuning = FineTuning(steps=steps, batch=_BATCH, learning_rate=_RATE, attachment=0.0, seed=seed)
    polished = fine_tune(network.cpu(), lesson, tuning)
    magnification, truth = _facts(frames, unseen)
    chosen = min((network, polished), key=lambda each: _rmse(each, new.features, magnification, truth))
    with torch.no_grad():
        told = chosen.judge(new.features, magnification)
    ordinary = truth > 0
    chosen.certainty.fit_sigma(told.scores[ordinary], told.log_sigma[ordinary], truth[ordinary])
    is_familiar = torch.from_numpy(np.isin(trained, familiar))
    # What is rarely flagged is known from many frames only; those of the training that nothing was measured from serve
    # as well as new ones: on another dataset's fields 0.3 % then lay beyond the limit, where 0.2 % were asked for.
    is_spare = ~is_familiar & torch.from_numpy((frames.label[trained] > 0) & (frames.sample[trained] != "assorted"))
    spare = torch.cat([seen.features[is_spare], new.features[ordinary]])
    chosen.certainty.fit_distance(seen.features[is_familiar], spare)
    return chosen


def _facts(frames: LabelledFrames, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Magnification and true score of rows, float32 each."""
    return torch.from_numpy(frames.magnification[rows]), torch.from_numpy(frames.score[rows])


@torch.no_grad()
def _rmse(network: ScoringNetwork, features: Tensor, magnification: Tensor, truth: Tensor) -> float:
    scores = network.judge(features, magnification).scores.mean(dim=1)
    return float((scores - truth).square().mean().sqrt())


def _even(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most `most` rows, evenly spread."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
