"""Recorded and simulated transitions in one batch."""

from __future__ import annotations

import numpy as np
import pytest

from semd.errors import TrainingError
from semd.training.control.mixed_replay import MixedReplay
from semd.training.control.replay_buffer import PrioritisedReplay


def filled(capacity: int, count: int, reward: float) -> PrioritisedReplay:
    replay = PrioritisedReplay(capacity, 2, 3, kappa=1.0, zeta=0.4)
    states = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
    rewards = np.full(count, reward)
    replay.add(states, np.zeros((count, 3), np.float32), rewards, states + 1, np.zeros(count, np.bool_))
    return replay


def mixed(share: float) -> MixedReplay:
    return MixedReplay(filled(8, 8, 1.0), filled(4, 4, -1.0), share)


@pytest.mark.parametrize(("share", "recorded"), [(0.25, 4), (0.5, 8), (0.01, 1), (0.99, 15)])
def test_the_share_is_kept_in_every_batch(share: float, recorded: int) -> None:
    replay, rng = mixed(share), np.random.default_rng(1)
    for _ in range(5):
        batch = replay.draw(16, rng)
        assert int((batch.rewards < 0).sum()) == recorded
        assert (batch.rewards[-recorded:] < 0).all()
        assert batch.states.shape == (16, 2)
        assert batch.weights.shape == (16,)


def test_recorded_transitions_never_give_way() -> None:
    replay = mixed(0.5)
    for _ in range(10):
        replay.add(
            np.full((8, 2), 9, np.float32), np.zeros((8, 3)), np.full(8, 2.0), np.zeros((8, 2)), np.ones(8, bool)
        )
    batch = replay.draw(16, np.random.default_rng(1))
    assert set(batch.rewards[:8]) == {2.0}
    assert set(batch.rewards[8:]) == {-1.0}
    assert set(batch.states[8:, 0]) == {0.0, 2.0, 4.0, 6.0}


def test_priorities_go_to_the_buffer_they_belong_to() -> None:
    replay = mixed(0.5)
    # Of eight and of four, only the third matters from now on.
    replay.set_priorities(np.arange(12), np.array([0, 0, 1e6, 0, 0, 0, 0, 0, 0, 0, 1e6, 0], np.float32))
    batch = replay.draw(16, np.random.default_rng(1))
    assert set(batch.indices[:8]) == {2}
    assert set(batch.indices[8:]) == {10}
    assert set(batch.states[:, 0]) == {4.0}


def test_the_state_puts_both_back() -> None:
    replay = mixed(0.5)
    replay.set_priorities(np.arange(12), np.arange(12, dtype=np.float32))
    other = MixedReplay(PrioritisedReplay(8, 2, 3, 1.0, 0.4), PrioritisedReplay(4, 2, 3, 1.0, 0.4), 0.5)
    other.set_state(replay.state())
    one, two = (each.draw(16, np.random.default_rng(3)) for each in (replay, other))
    assert np.array_equal(one.indices, two.indices)
    assert np.array_equal(one.weights, two.weights)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_is_between_0_and_1(share: float) -> None:
    with pytest.raises(TrainingError, match="between 0 and 1"):
        mixed(share)
