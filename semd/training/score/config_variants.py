"""Variants of the presets: the papers' other networks, other numbers of epochs, other learning rates."""

from __future__ import annotations

from dataclasses import replace

from semd.errors import ConfigError
from semd.training.score.score_settings import ScoreTrainingConfig

OURS = "ours"
NETWORKS = (OURS, "resnet50", "no-magnification")


def with_network(config: ScoreTrainingConfig, name: str) -> ScoreTrainingConfig:
    """The same training of another network: `ours` (unchanged), `resnet50`, or `no-magnification`.

    The baselines are those of the papers and take pixels alone.

    Raises:
        ConfigError: unknown name.
    """
    if name not in NETWORKS:
        raise ConfigError(f"network {name!r} is not known; there are {', '.join(NETWORKS)}")
    if name == "resnet50":
        return replace(config, architecture=replace(config.architecture, backbone="resnet50", spectrum=False))
    if name == "no-magnification":
        return replace(config, architecture=replace(config.architecture, magnification="none", spectrum=False))
    return config


def scale_epochs(config: ScoreTrainingConfig, scale: float) -> ScoreTrainingConfig:
    """The same training with `scale` times the epochs of every stage, or of the heads where there is none.

    The first keeps at least one epoch; a further one of which no more than half an epoch is left is left out.

    Raises:
        ConfigError: the scale is not positive.
    """
    if not scale > 0.0:
        raise ConfigError(f"the passes can be scaled by a positive number, not by {scale}")
    if not config.stages:
        return replace(config, heads_passes=max(1, round(scale * config.heads_passes)))
    first, *further = config.stages
    stages = [replace(first, epochs=max(1, round(scale * first.epochs)))]
    stages += [replace(stage, epochs=passes) for stage in further if (passes := round(scale * stage.epochs))]
    return replace(config, stages=tuple(stages))


def scale_learning_rates(config: ScoreTrainingConfig, scale: float) -> ScoreTrainingConfig:
    """The same training with its learning rates times `scale`, for weights that are close to their best.

    Raises:
        ConfigError: the scale is not positive.
    """
    if not scale > 0.0:
        raise ConfigError(f"the rates can be scaled by a positive number, not by {scale}")
    return replace(config, learning_rate=scale * config.learning_rate, heads_rate=scale * config.heads_rate)
