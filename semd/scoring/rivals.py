"""Trainings to compare ours with: the papers' other networks, and shorter runs."""

from __future__ import annotations

from dataclasses import replace

from semd.errors import ConfigError
from semd.scoring.training_config import TrainingConfig

OURS = "ours"
NETWORKS = (OURS, "resnet50", "no-magnification")


def with_network(config: TrainingConfig, name: str) -> TrainingConfig:
    """The same training of another network: `ours` (unchanged), `resnet50`, or `no-magnification`.

    Raises:
        ConfigError: unknown name.
    """
    if name not in NETWORKS:
        raise ConfigError(f"network {name!r} is not known; there are {', '.join(NETWORKS)}")
    if name == "resnet50":
        return replace(config, architecture=replace(config.architecture, backbone="resnet50"))
    if name == "no-magnification":
        return replace(config, architecture=replace(config.architecture, magnification="none"))
    return config


def shortened(config: TrainingConfig, scale: float) -> TrainingConfig:
    """The same training with every stage's passes multiplied by `scale`, at least one each.

    Raises:
        ConfigError: the scale is not positive.
    """
    if not scale > 0.0:
        raise ConfigError(f"the passes can be scaled by a positive number, not by {scale}")
    stages = tuple(replace(stage, epochs=max(1, round(scale * stage.epochs))) for stage in config.stages)
    return replace(config, stages=stages)
