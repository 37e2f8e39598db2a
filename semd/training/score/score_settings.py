"""Configuration of a training of the scoring machine, and its presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from semd.errors import ConfigError
from semd.scoring.network import OURS, PAPER, Architecture
from semd.scoring.spectrum import LEAST_SIDE_PX

Optimiser = Literal["sgd", "adamw"]
Target = Literal["score", "label"]


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the training at one crop size.

    Attributes:
        height_px: height of the random crops.
        width_px: width of the random crops.
        batch: frames per step and process.
        epochs: epochs over the training frames.
        tries: places tried for each crop; the one with most in it is taken, so that small crops seldom show
            nothing.
    """

    height_px: int
    width_px: int
    batch: int
    epochs: int
    tries: int = 1


# Blur is local: small crops at native resolution teach about as much per epoch, several times faster.
_DEFAULT_STAGES = (Stage(240, 320, 16, 8, tries=2), Stage(480, 640, 8, 2))


@dataclass(frozen=True, slots=True)
class ScoreTrainingConfig:
    """A training run; configuration, dataset, machine and thread count decide its outcome.

    Attributes:
        architecture: the network's form.
        stages: crop sizes and epochs, in order; none leaves the convolutions as they are and trains the heads and the
            reader of the spectrum alone.
        optimiser: `adamw` under a one-cycle schedule, or plain `sgd` at a constant rate.
        learning_rate: peak learning rate.
        momentum: momentum of `sgd`.
        weight_decay: decoupled weight decay of `adamw`.
        warm_up: share of the run in which the rate rises (`adamw`).
        target: learn the continuous `score` or the integer `label`.
        photometric: share of training frames whose gain, offset and gamma are varied.
        photometric_noise: share of those that get noise as well.
        batch_statistics: normalise each batch by its own statistics, as a network that learns from nothing has to;
            otherwise by the stored ones, as in use: a small batch's own are noise to one that knows much already.
        ema_decay: decay of the averaged weights that are evaluated and exported; 0 uses the last ones.
        bf16: compute in bfloat16 where that is safe.
        threads: torch threads.
        seed: seed of initial weights, order and augmentation.
        validation_fields: fields of the training side that are not trained on but evaluated after each epoch: the
            best of the epochs is kept, and the uncertainty is calibrated on them.
        patience: epochs without a better validation after which the training stops; 0 never stops it.
        heads_passes: epochs of the heads and the reader of the spectrum alone, once the convolutions are done.
        heads_rate: their highest learning rate.
        start_sha256: of the weights the training goes on from; empty for a network drawn at random.
    """

    architecture: Architecture = OURS
    stages: tuple[Stage, ...] = _DEFAULT_STAGES
    optimiser: Optimiser = "adamw"
    learning_rate: float = 1.2e-3
    momentum: float = 0.9
    weight_decay: float = 0.02
    warm_up: float = 0.06
    target: Target = "score"
    photometric: float = 0.7
    photometric_noise: float = 0.5
    batch_statistics: bool = True
    ema_decay: float = 0.997
    bf16: bool = True
    threads: int = 2
    seed: int = 0
    validation_fields: int = 100
    patience: int = 0
    heads_passes: int = 30
    heads_rate: float = 2e-3
    start_sha256: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with.

        Raises:
            ConfigError: a size, count, share or rate out of range.
        """
        least_px = LEAST_SIDE_PX if self.architecture.spectrum else 32
        for stage in self.stages:
            if min(stage.batch, stage.epochs, stage.tries) < 1 or min(stage.height_px, stage.width_px) < least_px:
                raise ConfigError(f"crops need at least {least_px} pixels; batch, epochs and tries at least 1: {stage}")
        if not (0.0 <= self.photometric <= 1.0 and 0.0 <= self.photometric_noise <= 1.0):
            raise ConfigError("photometric and photometric_noise are shares within 0..1")
        if min(self.validation_fields, self.patience) < 0:
            raise ConfigError("validation_fields and patience must not be negative")
        if self.heads_passes < 1 or not self.heads_rate > 0.0:
            raise ConfigError("heads_passes must be at least 1, heads_rate positive")
        if not self.learning_rate > 0.0 or not 0.0 <= self.ema_decay < 1.0 or self.threads < 1:
            raise ConfigError("learning_rate must be positive, ema_decay within 0..1 (1 excluded), threads at least 1")

    @property
    def epochs(self) -> int:
        """Number of epochs of all stages together."""
        return sum(stage.epochs for stage in self.stages)

    def stage_of(self, epoch: int) -> Stage:
        """The stage that an epoch, counted from 0, belongs to."""
        for stage in self.stages:
            if epoch < stage.epochs:
                return stage
            epoch -= stage.epochs
        raise IndexError("epoch beyond the last stage")


def paper_preset(epochs: int = 100, seed: int = 0, threads: int = 2) -> ScoreTrainingConfig:
    """The published training: SGD 2e-4, momentum 0.9, batch 1, random 240x320 crops, flips, integer labels.

    The two papers give 100 and 1000 epochs.
    """
    return ScoreTrainingConfig(
        architecture=PAPER,
        stages=(Stage(240, 320, 1, epochs),),
        optimiser="sgd",
        learning_rate=2e-4,
        momentum=0.9,
        weight_decay=0.0,
        warm_up=0.0,
        target="label",
        photometric=0.0,
        ema_decay=0.0,
        bf16=False,
        threads=threads,
        seed=seed,
    )


def further_preset(seed: int = 0, threads: int = 2) -> ScoreTrainingConfig:
    """More epochs over whole frames, for a network that has been through the default.

    What is left to learn is finer than what noise and batch statistics add: with them, frames that were trained on
    were off by 0.53 points, without them by 0.36.
    """
    return ScoreTrainingConfig(
        stages=(Stage(480, 640, 8, 6),),
        learning_rate=2.5e-4,
        photometric=0.25,
        photometric_noise=0.0,
        batch_statistics=False,
        seed=seed,
        threads=threads,
    )


def heads_preset(seed: int = 0, threads: int = 2) -> ScoreTrainingConfig:
    """No epochs: the heads and the reader of the spectrum learn from the features of a trained network.

    More fields are held out than in the other presets: they calibrate the uncertainty.
    """
    return ScoreTrainingConfig(stages=(), seed=seed, threads=threads, validation_fields=400)


PRESETS = ("default", "further", "heads", "paper")


def preset(name: str, seed: int = 0, threads: int = 2) -> ScoreTrainingConfig:
    """A preset by name.

    Raises:
        ConfigError: unknown name.
    """
    if name == "default":
        return ScoreTrainingConfig(seed=seed, threads=threads)
    if name == "further":
        return further_preset(seed=seed, threads=threads)
    if name == "heads":
        return heads_preset(seed=seed, threads=threads)
    if name == "paper":
        return paper_preset(seed=seed, threads=threads)
    raise ConfigError(f"unknown preset {name!r}, known are: {', '.join(PRESETS)}")
