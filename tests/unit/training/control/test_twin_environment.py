"""Training on the twin, its evaluation, and the actor's way into the manifest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from semd.control.policy import ActorPolicy
from semd.decision.rules import RunRules
from semd.model_store import load_model, store_model
from semd.simulator.twin_scene import SceneRanges
from semd.training.control.actor_manifest_entry import actor_entry
from semd.training.control.control_settings import DEFAULT, PAPER, ControlTrainingConfig
from semd.training.control.control_training import train_control
from semd.training.control.twin_environment import evaluate_on_twin, make_evaluation, make_twin

TINY = {"n_envs": 8, "max_frames": 128, "warmup_frames": 64, "batch_size": 8, "evaluate_episodes": 16}


@pytest.mark.parametrize("preset", [DEFAULT, PAPER])
def test_training_on_the_twin_ends_in_a_verified_model(preset: ControlTrainingConfig, tmp_path: Path) -> None:
    config = replace(preset, **TINY)
    quiet = Console(quiet=True)
    result = train_control(config, make_twin(config), make_evaluation(config), tmp_path / "run", console=quiet)
    assert result.frames == 128
    entry = actor_entry(config, result, "default")
    store_model(tmp_path / "models", "actor", result.best_path.read_bytes(), entry)
    stored = load_model(tmp_path / "models", "actor")
    assert ActorPolicy.load(stored.data).n_frames == config.n_frames
    assert stored.entry.figures["on_the_twin"]["episodes"] == 16
    assert json.loads(stored.entry.model_dump_json())["training"]["settings"]["gamma"] == config.gamma


def test_an_evaluation_repeats_itself() -> None:
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(50, 3)).astype(np.float32)

    def policy(states: np.ndarray) -> np.ndarray:
        return np.clip(states @ weights, -0.4, 0.4)

    rules = RunRules(max_steps=10)
    first = evaluate_on_twin(policy, rules, episodes=50)
    assert first == evaluate_on_twin(policy, rules, episodes=50)
    assert first.episodes == 50
    other = evaluate_on_twin(policy, rules, episodes=50, seed=1, ranges=SceneRanges(wd_only_share=1.0))
    assert other.final_quality != first.final_quality


def test_the_shipped_actor_reaches_the_goal_on_the_twin() -> None:
    """The manifest's figure, measured again on fewer episodes: at least 95 % within 25 frames."""
    models = Path(__file__).parents[4] / "models"
    policy = ActorPolicy.load(load_model(models, "actor").data)
    figures = evaluate_on_twin(policy.batch, RunRules(n_frames=policy.n_frames, rho=policy.rho), episodes=300)
    assert figures.success_25 >= 0.95
    assert figures.true_success_25 >= 0.8
    assert figures.median_frames <= 10
