"""After the last pass: the heads and what reads the spectrum learn on, and certainty is measured."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from semd.training.score.feature_cache import see_all
from semd.training.score.finetune import FineTuning, HeadFrames, fine_tune

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from semd.datasets.dataset import LabelledFrames
    from semd.scoring.network import ScoringNetwork
    from semd.training.score.training_config import TrainingConfig

_BATCH = 256
_WEIGHT_DECAY = 0.05
_WARM_UP = 0.1
_FAMILIAR_FRAMES = 4000
_NEW_SHARE = 0.75


def finish(
    network: ScoringNetwork,
    frames: LabelledFrames,
    trained: NDArray[np.int64],
    unseen: NDArray[np.int64],
    directory: Path,
    config: TrainingConfig,
    *,
    progress: bool,
) -> ScoringNetwork:
    """The network with heads fitted to its finished features, and with its certainty measured.

    Through the passes the heads chase features that change under them. Once these stand still, some minutes of the
    heads and of the spectrum's reader alone are worth many passes. They are kept only if that helps on frames that
    were not trained on; or weights between those before and after, which know more of what the frames no longer show
    (Wortsman and others, Robust fine-tuning of zero-shot models, 2022).

    Args:
        network: the best of the passes.
        frames: the dataset.
        trained: rows that were trained on.
        unseen: rows of fields that were not.
        directory: where what was computed on the way is kept until all is done.
        config: passes, rate and seed of the heads; whether the training rows' features are computed in bfloat16.
        progress: True where to show a progress bar.
    """
    seen = see_all(network, frames, trained, directory, bf16=config.bf16, progress=progress)
    new = see_all(network, frames, unseen, directory, bf16=False, progress=progress)
    lesson = HeadFrames(seen, *_facts(frames, trained), weight=torch.ones(len(trained)))
    tuning = FineTuning(
        steps=math.ceil(config.heads_passes * len(trained) / _BATCH),
        batch=_BATCH,
        learning_rate=config.heads_rate,
        warm_up=_WARM_UP,
        weight_decay=_WEIGHT_DECAY,
        attachment=0.0,
        seed=config.seed,
        spectrum=True,
    )
    polished = fine_tune(network.cpu(), lesson, tuning, progress=progress)
    magnification, truth = _facts(frames, unseen)
    candidates = (network, between(network, polished, _NEW_SHARE), polished)
    chosen = min(candidates, key=lambda each: _error(each, new, magnification, truth))
    with torch.no_grad():
        told = chosen.judge(new, magnification)
    # Other surfaces have a say in what is kept, not in how sure a score of the papers' samples is.
    ordinary = (truth > 0) & torch.from_numpy(~frames.is_other_surface[unseen])
    chosen.certainty.fit_sigma(told.scores[ordinary], told.log_sigma[ordinary], truth[ordinary])
    # Where the heads alone learn, the convolutions see as before. What was familiar to them, from all that they have
    # been shown, must not shrink to the frames at hand: a lattice of balls was strange in every fourth run then.
    if config.stages or not chosen.certainty.knows_distance:
        # The papers' 0, a frame with nothing in it, is neither ordinary nor one to be in doubt about.
        familiar = _even(trained[frames.label[trained] > 0], _FAMILIAR_FRAMES)
        is_familiar = torch.from_numpy(np.isin(trained, familiar))
        # What is rarely flagged is known from many frames only; those of the training that nothing was measured from
        # serve as well as new ones: on another dataset's fields 0.3 % then lay beyond the limit, 0.2 % were asked for.
        is_spare = ~is_familiar & torch.from_numpy((frames.label[trained] > 0) & ~frames.is_other_surface[trained])
        spare = torch.cat([seen[is_spare], new[ordinary]])
        chosen.certainty.fit_distance(seen[is_familiar, : chosen.features], spare[:, : chosen.features])
    return chosen


def _facts(frames: LabelledFrames, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Magnification and true score of rows, float32 each."""
    return torch.from_numpy(frames.magnification[rows]), torch.from_numpy(frames.score[rows])


@torch.no_grad()
def between(one: ScoringNetwork, other: ScoringNetwork, share: float) -> ScoringNetwork:
    """The network whose weights lie between those of two others, `share` (0..1) of the way to the second."""
    found = copy.deepcopy(one)
    new = other.state_dict()
    for name, value in found.state_dict().items():
        if value.is_floating_point():
            value.lerp_(new[name].to(value.dtype), share)
    return found


@torch.no_grad()
def _error(network: ScoringNetwork, seen: Tensor, magnification: Tensor, truth: Tensor) -> float:
    """Mean absolute error: in squares one hardly recognisable frame in a hundred would outweigh all others."""
    scores = network.judge(seen, magnification).scores.mean(dim=1)
    return float((scores - truth).abs().mean())


def _even(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most `most` rows, evenly spread."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
