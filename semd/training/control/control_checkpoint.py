"""Training's checkpoint: safetensors for the networks, npz for the replay buffer, JSON for the rest.

No pickle anywhere. A checkpoint is a folder that appears under its name only when it is whole, so a training
that is killed at any moment leaves the last whole one.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from semd.errors import TrainingError
from semd.training.control.ddpg import Ddpg
from semd.training.control.replay_buffer import Replay

_NAME, _OLD, _NEW = "checkpoint", "checkpoint.old", "checkpoint.new"
_NETWORKS = ("actor", "critic", "target_actor", "target_critic")
_OPTIMISERS = ("actor_optimiser", "critic_optimiser")


def save_checkpoint(run_dir: Path, learner: Ddpg, replay: Replay, progress: dict[str, Any]) -> None:
    """Write the checkpoint in `run_dir`; the last one stays until this one is whole.

    Args:
        run_dir: an existing folder.
        learner: its networks and optimisers.
        replay: the transitions.
        progress: counters and states of the random generators; JSON-able.
    """
    new, name, old = run_dir / _NEW, run_dir / _NAME, run_dir / _OLD
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    save_file(_tensors(learner), new / "learner.safetensors")
    np.savez(new / "replay.npz", allow_pickle=False, **replay.state())
    (new / "progress.json").write_text(json.dumps(progress), "utf-8")
    shutil.rmtree(old, ignore_errors=True)
    if name.exists():
        name.rename(old)
    new.rename(name)
    shutil.rmtree(old, ignore_errors=True)


def has_checkpoint(run_dir: Path) -> bool:
    """Return True if there is a whole checkpoint to go on from."""
    return _find(run_dir) is not None


def load_checkpoint(run_dir: Path, learner: Ddpg, replay: Replay) -> dict[str, Any] | None:
    """Put back the last whole checkpoint; returns its `progress`, or None when there is none.

    Raises:
        TrainingError: the checkpoint is damaged or belongs to other networks.
    """
    folder = _find(run_dir)
    if folder is None:
        return None
    try:
        tensors = load_file(folder / "learner.safetensors")
        with np.load(folder / "replay.npz", allow_pickle=False) as arrays:
            replay.set_state(dict(arrays))
        progress: dict[str, Any] = json.loads((folder / "progress.json").read_text("utf-8"))
        _restore(learner, tensors)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise TrainingError(f"{folder}: not a checkpoint of this training: {error}") from error
    return progress


def _find(run_dir: Path) -> Path | None:
    return next((run_dir / name for name in (_NAME, _OLD) if (run_dir / name).is_dir()), None)


def _tensors(learner: Ddpg) -> dict[str, Tensor]:
    tensors = {
        f"{name}.{key}": value for name in _NETWORKS for key, value in getattr(learner, name).state_dict().items()
    }
    for name in _OPTIMISERS:
        for index, slots in getattr(learner, name).state_dict()["state"].items():
            tensors |= {f"{name}.{index}.{slot}": value for slot, value in slots.items()}
    return {name: value.detach().contiguous() for name, value in tensors.items()}


def _restore(learner: Ddpg, tensors: dict[str, Tensor]) -> None:
    for name in _NETWORKS:
        own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        getattr(learner, name).load_state_dict(own)
    for name in _OPTIMISERS:
        optimiser: torch.optim.Optimizer = getattr(learner, name)
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f"{name}."):
                _, index, slot = key.split(".")
                slots.setdefault(int(index), {})[slot] = value
        optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})
