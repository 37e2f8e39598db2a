"""Interface of an environment for training: many microscopes at once, in plain arrays.

An episode that ends starts anew within the same step, and `VectorStep` carries both the state it ended in and
the state the next one starts from. So no step that belongs to two episodes ever reaches the replay buffer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from semd.domain.state import Actions, BoolArray, States


@dataclass(frozen=True, slots=True)
class VectorStep:
    """One step of B microscopes.

    Attributes:
        next_states: float32 (B, 10 N), where the step led, also where the episode ended there.
        states: float32 (B, 10 N), where the next step starts: the first state of a new episode after an end.
        rewards: float64 (B,), equation (6), in units of the score.
        terminated: bool (B,), the frame passed (score above omega and exposure accepted): no bootstrap.
        truncated: bool (B,), the time limit was reached: bootstrap.
        truly_good: bool (B,), whether the frame is good by the truth that only a simulator knows.
        quality: float64 (B,), the true focus quality 1..10.
        frames: int64 (B,), frames the episode has taken so far, its first included.
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
        """B."""

    def reset(self) -> States:
        """Start B new episodes; returns their first states, float32 (B, 10 N)."""

    def step(self, actions: Actions) -> VectorStep:
        """Apply steps float32 (B, 3) on the networks' scale and scan again."""

    def random_state(self) -> dict[str, Any]:
        """State of the environment's random generator, for a checkpoint (JSON-able)."""

    def set_random_state(self, state: dict[str, Any]) -> None:
        """Put it back."""
