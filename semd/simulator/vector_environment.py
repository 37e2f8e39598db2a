"""Interface of a vectorised training environment: B microscopes in plain arrays.

The step that ends an episode also starts the next one. `VectorStep` holds the last state of the one and the first state
of the other, so that no transition in the replay buffer spans two episodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from semd.domain.state import Actions, BoolArray, States


@dataclass(frozen=True, slots=True)
class VectorStep:
    """Step of B microscopes.

    Attributes:
        next_states: float32 (B, 10 N), states after the step; the last state of an episode that ended.
        states: float32 (B, 10 N), states before the next step; the first state of a new episode after an end.
        rewards: float64 (B,), equation (6), in units of the score.
        terminated: bool (B,), the frame passed (score above omega and exposure accepted): no bootstrap.
        truncated: bool (B,), the time limit was reached: bootstrap.
        truly_good: bool (B,), True where the frame is good by the ground truth.
        quality: float64 (B,), the true focus quality 1..10.
        frames: int64 (B,), number of frames of the episode so far, including the first.
    """

    next_states: States
    states: States
    rewards: NDArray[np.float64]
    terminated: BoolArray
    truncated: BoolArray
    truly_good: BoolArray
    quality: NDArray[np.float64]
    frames: NDArray[np.int64]


class VectorEnvironment(Protocol):
    """B microscopes that step together."""

    @property
    def n_envs(self) -> int:
        """Number of microscopes, B."""

    def reset(self) -> States:
        """Start B new episodes; returns their first states, float32 (B, 10 N)."""

    def step(self, actions: Actions) -> VectorStep:
        """Apply steps float32 (B, 3) on the networks' scale and scan again."""

    def random_state(self) -> dict[str, Any]:
        """State of the environment's random generator, for a checkpoint (JSON-able)."""

    def set_random_state(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `random_state`."""
