"""DDPG's equations, (7) to (15), each against a computation of its own."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from semd.errors import TrainingError
from semd.training.control.control_settings import DEFAULT, PAPER
from semd.training.control.ddpg import Ddpg
from semd.training.control.replay_buffer import ReplayBatch

CONFIG = replace(DEFAULT, n_frames=1, rho=0.2)


def learner(seed: int = 3, config=CONFIG) -> Ddpg:
    return Ddpg(config, torch.Generator().manual_seed(seed))


def batch(size: int = 6, seed: int = 0) -> ReplayBatch:
    rng = np.random.default_rng(seed)
    return ReplayBatch(
        indices=np.arange(size),
        states=rng.uniform(-1, 1, (size, 10)).astype(np.float32),
        actions=rng.uniform(-0.4, 0.4, (size, 3)).astype(np.float32),
        rewards=rng.uniform(-1, 1, size).astype(np.float32),
        next_states=rng.uniform(-1, 1, (size, 10)).astype(np.float32),
        terminated=(np.arange(size) % 3 == 0).astype(np.float32),
        weights=np.linspace(0.5, 1.0, size, dtype=np.float32),
    )


def values(critic, states: np.ndarray, actions: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return critic(torch.from_numpy(states), actions).numpy()


def test_presets_hold_the_published_values() -> None:
    published = (PAPER.episodes, PAPER.time_limit, PAPER.lr_actor, PAPER.lr_critic, PAPER.gamma, PAPER.tau)
    assert published == (500, 50, 3e-6, 1e-4, 0.25, 0.001)
    assert (PAPER.kappa, PAPER.zeta, PAPER.sigma) == (0.7, 0.4, 0.25)
    assert (PAPER.epsilon_start, PAPER.epsilon_end, PAPER.n_envs) == (0.2, 0.99, 1)


def test_td_error_and_loss() -> None:
    ours = learner()
    before, drawn = copy.deepcopy(ours), batch()
    update = ours.update(drawn)
    with torch.no_grad():
        next_actions = before.target_actor(torch.from_numpy(drawn.next_states))
    follows = values(before.target_critic, drawn.next_states, next_actions)
    y = drawn.rewards + CONFIG.gamma * np.where(drawn.terminated == 1.0, 0.0, follows)
    td_errors = y - values(before.critic, drawn.states, torch.from_numpy(drawn.actions))
    assert update.td_errors == pytest.approx(td_errors, abs=1e-5)
    assert update.critic_loss == pytest.approx(float((drawn.weights * td_errors**2).mean()), rel=1e-4)


def test_targets_move_by_tau_after_the_online_networks() -> None:
    ours = learner()
    before = copy.deepcopy(ours.target_actor.state_dict())
    ours.update(batch())
    online, after = ours.actor.state_dict(), ours.target_actor.state_dict()
    name = "layers.0.weight"
    expected = CONFIG.tau * online[name] + (1 - CONFIG.tau) * before[name]
    assert torch.allclose(after[name], expected, atol=1e-8)
    assert not torch.equal(online[name], before[name])


def test_the_actors_update_leaves_the_critic_alone_and_climbs_its_value() -> None:
    ours, drawn = learner(config=replace(CONFIG, lr_critic=0.0)), batch(64)
    critic = copy.deepcopy(ours.critic.state_dict())
    first = ours.update(drawn).value
    for _ in range(10):
        last = ours.update(drawn).value
    assert all(torch.equal(critic[name], value) for name, value in ours.critic.state_dict().items())
    assert last > first


def test_the_critic_learns_what_it_is_told() -> None:
    ours, drawn = learner(), batch(32)
    drawn = replace(drawn, terminated=np.ones(32, np.float32))
    losses = [ours.update(drawn).critic_loss for _ in range(40)]
    assert losses[-1] < 0.2 * losses[0]


def test_exploration() -> None:
    ours = learner()
    states = np.random.default_rng(1).uniform(-1, 1, (4000, 10)).astype(np.float32)
    greedy = ours.act(states)
    assert np.array_equal(ours.explore(states, 1.0, np.random.default_rng(2)), greedy)
    steps = ours.explore(states, 0.3, np.random.default_rng(2))
    noisy = (steps != greedy).any(axis=1)
    assert noisy.mean() == pytest.approx(0.7, abs=0.03)
    # sigma 0.25 of a bound of 0.4
    assert (steps - greedy)[noisy].std() == pytest.approx(0.1, rel=0.05)
    assert np.abs(steps).max() <= 0.4 + 1e-6


def test_learning_rates_fall_to_their_end() -> None:
    ours = learner(config=replace(CONFIG, lr_end_factor=0.1))
    rates = []
    for progress in (0.0, 0.5, 1.0):
        ours.anneal(progress)
        rates.append(ours.actor_optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-4, 0.55e-4, 1e-5])


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    drawn = batch()
    drawn.rewards[2] = np.inf
    with pytest.raises(TrainingError, match="finite"):
        learner().update(drawn)
