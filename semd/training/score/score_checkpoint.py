"""Checkpoints of a training: safetensors for tensors, JSON for the rest, replaced in one step."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from semd.errors import TrainingError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from semd.training.score.score_settings import ScoreTrainingConfig

_NAME = "checkpoint.safetensors"
_META_KEY = "semd"


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Position of a training in its epochs and stages.

    Attributes:
        epoch: finished epochs.
        best_rmse: lowest validation error so far.
        epochs_without_gain: epochs since.
    """

    epoch: int
    best_rmse: float
    epochs_without_gain: int

    def after_epoch(self, rmse: float) -> TrainingProgress:
        """The progress once another epoch has ended with this validation error."""
        if rmse >= self.best_rmse:
            return TrainingProgress(self.epoch + 1, self.best_rmse, self.epochs_without_gain + 1)
        return TrainingProgress(self.epoch + 1, rmse, 0)


def save_checkpoint(
    run_dir: Path,
    config: ScoreTrainingConfig,
    progress: TrainingProgress,
    network: dict[str, Tensor],
    averaged: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
) -> None:
    """Write a checkpoint in place of the last one; a kill at any moment leaves one or the other."""
    tensors = {f"network.{name}": value.detach().contiguous().clone() for name, value in network.items()}
    tensors |= {f"averaged.{name}": value.detach().contiguous().clone() for name, value in averaged.items()}
    for index, entries in optimiser.state_dict()["state"].items():
        for name, value in entries.items():
            if value is not None:
                tensors[f"optimiser.{index}.{name}"] = value.detach().contiguous().clone()
    meta = {"config": asdict(config), "progress": asdict(progress)}
    partial = run_dir / (_NAME + ".partial")
    partial.write_bytes(save(tensors, {_META_KEY: json.dumps(meta)}))
    partial.replace(run_dir / _NAME)


def load_checkpoint(
    run_dir: Path,
    config: ScoreTrainingConfig,
    network: torch.nn.Module,
    averaged: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
) -> TrainingProgress | None:
    """Restore a training from its directory; None where there is no checkpoint yet.

    Raises:
        TrainingError: the checkpoint is damaged, or belongs to another configuration.
    """
    path = run_dir / _NAME
    if not path.is_file():
        return None
    data = path.read_bytes()
    try:
        tensors = load(data)
        header_size = int.from_bytes(data[:8], "little")
        meta: dict[str, Any] = json.loads(json.loads(data[8 : 8 + header_size])["__metadata__"][_META_KEY])
    except (SafetensorError, KeyError, ValueError) as error:
        raise TrainingError(f"{path} is no checkpoint: {error}") from error
    if _identity(meta["config"]) != _identity(json.loads(json.dumps(asdict(config)))):
        raise TrainingError(f"{path} belongs to another configuration; use another run directory or remove it")
    network.load_state_dict(_part(tensors, "network."))
    averaged.load_state_dict(_part(tensors, "averaged."))
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _part(tensors, "optimiser.").items():
        index, _, entry = name.partition(".")
        state.setdefault(int(index), {})[entry] = _laid_out_like(parameters[int(index)], value)
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return TrainingProgress(**meta["progress"])


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """A moment in its parameter's memory order: a fused optimiser walks through both side by side."""
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _identity(config: dict[str, Any]) -> dict[str, Any]:
    """Identity of a training: its configuration without the number of threads."""
    return {name: value for name, value in config.items() if name != "threads"}


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
