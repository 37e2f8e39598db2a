"""Prioritised experience replay, equations (11) and (12) of our numbering (see `ddpg`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from semd.domain.state import Actions, BoolArray, States
from semd.errors import TrainingError

_SMALLEST_PRIORITY = 1e-3


@dataclass(frozen=True, slots=True)
class ReplayBatch:
    """K transitions drawn for an update.

    Attributes:
        indices: int64 (K,), their places in the buffer.
        states: float32 (K, S).
        actions: float32 (K, 3).
        rewards: float32 (K,).
        next_states: float32 (K, S).
        terminated: float32 (K,), 1 where nothing follows.
        weights: float32 (K,), importance weights (12), largest 1.
    """

    indices: NDArray[np.int64]
    states: States
    actions: Actions
    rewards: NDArray[np.float32]
    next_states: States
    terminated: NDArray[np.float32]
    weights: NDArray[np.float32]


class Replay(Protocol):
    """Interface of a replay buffer; see `PrioritisedReplay`."""

    def add(
        self,
        states: States,
        actions: Actions,
        rewards: NDArray[np.float64],
        next_states: States,
        terminated: BoolArray,
    ) -> None:
        """Add B transitions."""

    def draw(self, size: int, rng: np.random.Generator) -> ReplayBatch:
        """Draw `size` transitions."""

    def set_priorities(self, indices: NDArray[np.int64], td_errors: NDArray[np.float32]) -> None:
        """Set the priorities of drawn transitions from their TD errors."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything in arrays, for a checkpoint."""

    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Put back what `state` gave."""


class PrioritisedReplay:
    """A ring of transitions; those with the largest TD errors are drawn most often.

    A cumulated sum over all priorities for every draw: with 200,000 transitions that is a fraction of a
    millisecond, next to tens of milliseconds for the update, and it is easier to trust than a tree.
    """

    def __init__(self, capacity: int, state_size: int, action_size: int, kappa: float, zeta: float) -> None:
        """Allocate room for `capacity` transitions."""
        self._states = np.zeros((capacity, state_size), np.float32)
        self._actions = np.zeros((capacity, action_size), np.float32)
        self._rewards = np.zeros(capacity, np.float32)
        self._next_states = np.zeros((capacity, state_size), np.float32)
        self._terminated = np.zeros(capacity, np.float32)
        self._raised = np.zeros(capacity, np.float64)  # |priority| ** kappa
        self._capacity = capacity
        self._kappa = kappa
        self._zeta = zeta
        self._next = 0
        self._size = 0
        self._largest = 1.0

    def __len__(self) -> int:
        return self._size

    @property
    def capacity(self) -> int:
        """Most transitions it can hold."""
        return self._capacity

    def add(
        self,
        states: States,
        actions: Actions,
        rewards: NDArray[np.float64],
        next_states: States,
        terminated: BoolArray,
    ) -> None:
        """Add B transitions; the oldest give way. New ones have the largest priority seen so far."""
        places = (self._next + np.arange(len(states))) % self._capacity
        self._states[places] = states
        self._actions[places] = actions
        self._rewards[places] = rewards
        self._next_states[places] = next_states
        self._terminated[places] = terminated
        self._raised[places] = self._largest
        self._next = int((self._next + len(states)) % self._capacity)
        self._size = min(self._size + len(states), self._capacity)

    def draw(self, size: int, rng: np.random.Generator) -> ReplayBatch:
        """Draw `size` transitions with probability (11), one from each of as many equal slices."""
        cumulated = np.cumsum(self._raised[: self._size])
        total = cumulated[-1]
        marks = (np.arange(size) + rng.random(size)) * (total / size)
        indices = np.minimum(np.searchsorted(cumulated, marks), self._size - 1)
        probability = self._raised[indices] / total
        # (12) by the batch's maximum: by the whole buffer's a single rare transition would shrink each step.
        weights = (self._size * probability) ** -self._zeta
        weights /= weights.max()
        return ReplayBatch(
            indices=indices,
            states=self._states[indices],
            actions=self._actions[indices],
            rewards=self._rewards[indices],
            next_states=self._next_states[indices],
            terminated=self._terminated[indices],
            weights=weights.astype(np.float32),
        )

    def set_priorities(self, indices: NDArray[np.int64], td_errors: NDArray[np.float32]) -> None:
        """(11): priority = |TD error| + a little, raised to kappa."""
        raised = (np.abs(td_errors.astype(np.float64)) + _SMALLEST_PRIORITY) ** self._kappa
        self._raised[indices] = raised
        self._largest = max(self._largest, float(raised.max()))

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything in arrays, for a checkpoint."""
        size = self._size
        return {
            "states": self._states[:size],
            "actions": self._actions[:size],
            "rewards": self._rewards[:size],
            "next_states": self._next_states[:size],
            "terminated": self._terminated[:size],
            "raised": self._raised[:size],
            "counters": np.array([self._next, size, self._largest], np.float64),
        }

    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Put back what `state` gave.

        Raises:
            TrainingError: it belongs to a larger buffer or other shapes.
        """
        self._next, self._size = int(state["counters"][0]), int(state["counters"][1])
        self._largest = float(state["counters"][2])
        own: dict[str, NDArray[Any]] = {
            "states": self._states,
            "actions": self._actions,
            "rewards": self._rewards,
            "next_states": self._next_states,
            "terminated": self._terminated,
            "raised": self._raised,
        }
        for name, array in own.items():
            if self._size > self._capacity or state[name].shape != (self._size, *array.shape[1:]):
                raise TrainingError(f"the checkpoint's replay buffer does not fit: {name} {state[name].shape}")
            array[: self._size] = state[name]
