"""Recorded transitions of a microscope, for training beside the simulated ones."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semd.domain.axes import AXES
from semd.domain.state import Actions, BoolArray, States
from semd.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Experience:
    """Recorded transitions in the form that Algorithm 1 stores, with the reward of (6).

    Attributes:
        states: float32 (n, 10 N), (3).
        actions: float32 (n, 3), steps of WD, brightness and contrast on the networks' scale.
        rewards: float64 (n,), (6), in units of the score.
        next_states: float32 (n, 10 N).
        terminated: bool (n,), the run passed: no bootstrap.
    """

    states: States
    actions: Actions
    rewards: NDArray[np.float64]
    next_states: States
    terminated: BoolArray

    def __len__(self) -> int:
        """Return n."""
        return len(self.rewards)

    def save(self, path: Path) -> None:
        """Write the arrays as npz."""
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **{each.name: getattr(self, each.name) for each in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Experience:
        """Read what `save` wrote.

        Raises:
            TrainingError: it is not there, or not such a file.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return cls(**{each.name: arrays[each.name] for each in fields(cls)})
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise TrainingError(f"{path}: not the transitions of a training from records: {error}") from error

    def require_fit(self, state_size: int) -> None:
        """Refuse transitions that networks with `state_size` inputs cannot learn from.

        Raises:
            TrainingError: no transition, or shapes that do not fit.
        """
        count = len(self)
        expected = ((count, state_size), (count, len(AXES)), (count, state_size), (count,))
        found = (self.states.shape, self.actions.shape, self.next_states.shape, self.terminated.shape)
        if count == 0 or found != expected:
            raise TrainingError(f"recorded transitions of shapes {found}; with states of {state_size}: {expected}")
