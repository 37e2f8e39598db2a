"""Training and evaluating the control machine on the feature-level twin."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from semd.control.evaluate import BatchPolicy, ControlFigures, evaluate
from semd.control.settings import PRESETS, Preset, TrainingConfig
from semd.control.training import TrainingResult, train_control
from semd.domain.reward import PAPER_WEIGHTS
from semd.domain.rules import RunRules
from semd.simulator.twin import Twin
from semd.simulator.twin_scene import SceneRanges

_EVALUATION_SEED = 77_000


def twin_rules(config: TrainingConfig, preset: Preset) -> RunRules:
    """The rules the twin plays by; preset `paper` takes the exposure's term out of the reward (6)."""
    rules = RunRules(n_frames=config.n_frames, rho=config.rho)
    return replace(rules, weights=PAPER_WEIGHTS) if preset == "paper" else rules


def train_on_twin(
    run_dir: Path,
    *,
    preset: Preset = "default",
    config: TrainingConfig | None = None,
    ranges: SceneRanges | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> TrainingResult:
    """Train an actor on the twin; see `control.training.train_control`.

    Args:
        run_dir: where curve, checkpoint and weights go.
        preset: which settings, when `config` is None; and which reward.
        config: settings instead of the preset's.
        ranges: how varied the scenes are.
        resume: go on from the checkpoint in `run_dir`.
        console: where the progress bar goes.

    Raises:
        TrainingError: as `train_control`.
    """
    config = config or PRESETS[preset]
    rules = twin_rules(config, preset)
    environment = Twin(config.n_envs, rules, config.time_limit, config.seed, ranges)

    def evaluation(policy: BatchPolicy) -> ControlFigures:
        return evaluate_on_twin(policy, rules, episodes=config.evaluate_episodes, ranges=ranges)

    return train_control(config, environment, evaluation, run_dir, resume=resume, console=console)


def evaluate_on_twin(
    policy: BatchPolicy,
    rules: RunRules,
    *,
    episodes: int = 2_000,
    time_limit: int = 49,
    seed: int = _EVALUATION_SEED,
    ranges: SceneRanges | None = None,
) -> ControlFigures:
    """Play greedy episodes on twins of its own, the same for every call with the same seed.

    Args:
        policy: states float32 (B, 10 N) to steps (B, 3).
        rules: N, rho and the stop rule.
        episodes: how many.
        time_limit: steps of an episode; a run takes one frame more.
        seed: of the scenes.
        ranges: how varied the scenes are.
    """
    return evaluate(policy, Twin(episodes, rules, time_limit, seed, ranges))
