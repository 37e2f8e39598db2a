"""Prioritised replay, (11) and (12), against sums worked out apart from it."""

from __future__ import annotations

import numpy as np
import pytest

from semd.errors import TrainingError
from semd.training.control.replay_buffer import PrioritisedReplay


def filled(count: int, capacity: int = 8, kappa: float = 0.7, zeta: float = 0.4) -> PrioritisedReplay:
    replay = PrioritisedReplay(capacity, 2, 3, kappa, zeta)
    for number in range(count):
        states = np.full((1, 2), number, np.float32)
        actions = np.full((1, 3), number, np.float32)
        replay.add(states, actions, np.array([float(number)]), states + 0.5, np.array([number % 2 == 0]))
    return replay


def test_transitions_come_back_whole() -> None:
    batch = filled(6).draw(64, np.random.default_rng(0))
    numbers = batch.rewards
    assert set(numbers.tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}
    assert np.array_equal(batch.states[:, 0], numbers)
    assert np.array_equal(batch.actions[:, 2], numbers)
    assert np.array_equal(batch.next_states[:, 1], numbers + 0.5)
    assert np.array_equal(batch.terminated, (numbers % 2 == 0).astype(np.float32))


def test_the_oldest_give_way() -> None:
    replay = filled(11, capacity=8)
    assert len(replay) == 8
    assert set(replay.draw(64, np.random.default_rng(0)).rewards.tolist()) == set(map(float, range(3, 11)))


def test_draws_follow_the_priorities() -> None:
    replay = filled(4)
    errors = np.array([0.1, -1.0, 2.0, 0.0], np.float32)
    replay.set_priorities(np.arange(4), errors)
    priority = (np.abs(errors.astype(float)) + 1e-3) ** 0.7
    share = priority / priority.sum()
    batch = replay.draw(200_000, np.random.default_rng(1))
    counted = np.bincount(batch.indices, minlength=4) / 200_000
    assert counted == pytest.approx(share, abs=2e-3)
    weight = (4 * share) ** -0.4
    weight = weight[batch.indices] / weight[np.unique(batch.indices)].max()
    assert batch.weights == pytest.approx(weight, rel=1e-5)
    assert batch.weights.max() == 1.0


def test_kappa_zero_draws_evenly_and_weighs_alike() -> None:
    replay = filled(4, kappa=0.0)
    replay.set_priorities(np.arange(4), np.array([0.0, 1.0, 5.0, 100.0], np.float32))
    batch = replay.draw(400, np.random.default_rng(1))
    assert np.bincount(batch.indices).tolist() == pytest.approx([100] * 4, abs=1)
    assert batch.weights == pytest.approx(np.ones(400))


def test_new_transitions_are_drawn_as_eagerly_as_the_most_surprising() -> None:
    replay = filled(2)
    replay.set_priorities(np.arange(2), np.array([9.0, 0.0], np.float32))
    one = np.zeros((1, 2), np.float32)
    replay.add(one, np.zeros((1, 3), np.float32), np.array([7.0]), one, np.array([False]))
    drawn = replay.draw(10_000, np.random.default_rng(2)).indices
    assert (drawn == 2).mean() == pytest.approx((drawn == 0).mean(), abs=0.01)


def test_state_round_trip_draws_the_same() -> None:
    replay = filled(11)
    replay.set_priorities(np.arange(8), np.linspace(0, 3, 8, dtype=np.float32))
    other = PrioritisedReplay(8, 2, 3, 0.7, 0.4)
    other.set_state(replay.state())
    ours, theirs = (each.draw(32, np.random.default_rng(3)) for each in (replay, other))
    assert np.array_equal(ours.indices, theirs.indices)
    assert np.array_equal(ours.states, theirs.states)
    assert len(other) == 8


def test_a_state_of_another_shape_is_refused() -> None:
    with pytest.raises(TrainingError):
        PrioritisedReplay(4, 2, 3, 0.7, 0.4).set_state(filled(8).state())
    with pytest.raises(TrainingError):
        PrioritisedReplay(8, 3, 3, 0.7, 0.4).set_state(filled(8).state())
