"""Two replay buffers as one: transitions of the environment, and recorded ones that are never overwritten."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semd.domain.state import Actions, BoolArray, States
from semd.errors import TrainingError
from semd.training.control.replay_buffer import PrioritisedReplay, ReplayBatch

_PREFIX = "recorded_"


class MixedReplay:
    """Draws a fixed share of every batch from the recorded transitions.

    In one ring the few recorded transitions would drown among the simulated ones and soon be overwritten. Each
    part keeps priorities of its own: (11) and (12) hold within it, the share holds between them.
    """

    def __init__(self, own: PrioritisedReplay, recorded: PrioritisedReplay, share: float) -> None:
        """Put two buffers together.

        Args:
            own: takes what is added.
            recorded: filled already; stays as it is but for its priorities.
            share: of a batch that is drawn from `recorded`, between 0 and 1; at least one transition of a
                batch comes from each.

        Raises:
            TrainingError: the share is not between 0 and 1.
        """
        if not 0.0 < share < 1.0:
            raise TrainingError(f"a share of {share:g} of recorded transitions; it must be between 0 and 1")
        self._own = own
        self._recorded = recorded
        self._share = share

    def add(
        self,
        states: States,
        actions: Actions,
        rewards: NDArray[np.float64],
        next_states: States,
        terminated: BoolArray,
    ) -> None:
        """Add B transitions of the environment at hand."""
        self._own.add(states, actions, rewards, next_states, terminated)

    def draw(self, size: int, rng: np.random.Generator) -> ReplayBatch:
        """Draw `size` >= 2 transitions, the recorded ones last; their indices begin above the other buffer's."""
        n_recorded = min(max(1, round(self._share * size)), size - 1)
        one = self._own.draw(size - n_recorded, rng)
        other = self._recorded.draw(n_recorded, rng)
        joined = {
            each.name: np.concatenate((getattr(one, each.name), getattr(other, each.name)))
            for each in fields(ReplayBatch)
        }
        joined["indices"] = np.concatenate((one.indices, other.indices + self._own.capacity))
        return ReplayBatch(**joined)

    def set_priorities(self, indices: NDArray[np.int64], td_errors: NDArray[np.float32]) -> None:
        """(11), each transition in the buffer it came from."""
        recorded = indices >= self._own.capacity
        self._own.set_priorities(indices[~recorded], td_errors[~recorded])
        self._recorded.set_priorities(indices[recorded] - self._own.capacity, td_errors[recorded])

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything in arrays, for a checkpoint."""
        return self._own.state() | {_PREFIX + name: array for name, array in self._recorded.state().items()}

    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Put back what `state` gave.

        Raises:
            TrainingError: it belongs to other buffers.
            KeyError: it was saved without recorded transitions.
        """
        self._recorded.set_state(
            {name.removeprefix(_PREFIX): array for name, array in state.items() if name.startswith(_PREFIX)}
        )
        self._own.set_state({name: array for name, array in state.items() if not name.startswith(_PREFIX)})
