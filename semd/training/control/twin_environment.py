"""The feature-level twin as the environment that the control machine trains and is evaluated on."""

from __future__ import annotations

from semd.decision.rules import RunRules
from semd.simulator.twin import Twin
from semd.simulator.twin_scene import SceneRanges
from semd.training.control.actor_evaluation import BatchPolicy, ControlFigures, evaluate
from semd.training.control.control_settings import ControlTrainingConfig
from semd.training.control.control_training import Evaluation

_EVALUATION_SEED = 77_000


def make_twin(config: ControlTrainingConfig, ranges: SceneRanges | None = None) -> Twin:
    """The microscopes to train on."""
    return Twin(config.n_envs, config.rules(), config.time_limit, config.seed, ranges)


def make_evaluation(config: ControlTrainingConfig, ranges: SceneRanges | None = None) -> Evaluation:
    """An evaluation that plays the same greedy episodes whenever it is called, by the daemon's default rules."""
    rules = RunRules(n_frames=config.n_frames, rho=config.rho)

    def evaluation(policy: BatchPolicy) -> ControlFigures:
        return evaluate_on_twin(policy, rules, episodes=config.evaluate_episodes, ranges=ranges)

    return evaluation


def evaluate_on_twin(
    policy: BatchPolicy,
    rules: RunRules,
    *,
    episodes: int = 2_000,
    seed: int = _EVALUATION_SEED,
    ranges: SceneRanges | None = None,
) -> ControlFigures:
    """Play greedy episodes on twins of its own, the same for every call with the same seed.

    Args:
        policy: states float32 (B, 10 N) to steps (B, 3).
        rules: N, rho and the stop rule; a run takes `max_steps` frames at most.
        episodes: how many.
        seed: of the scenes.
        ranges: how varied the scenes are.
    """
    return evaluate(policy, Twin(episodes, rules, rules.max_steps - 1, seed, ranges))
