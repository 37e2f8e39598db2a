"""Several Gymnasium environments as one `VectorEnvironment`, for training and evaluating on images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from semd.domain.state import Actions, States
from semd.simulator.vector_environment import VectorStep
from semd.training.control.environment import SemEnvironment


class EnvironmentBatch:
    """Steps its environments one after another; each starts anew in the step that ends its episode."""

    def __init__(self, environments: Sequence[SemEnvironment], seed: int) -> None:
        """Take the environments over.

        Args:
            environments: at least one.
            seed: environment i's first episode is seeded with `seed + i`, the later ones go on from there.
        """
        self._environments = list(environments)
        self._seed: int | None = seed

    @property
    def n_envs(self) -> int:
        """B."""
        return len(self._environments)

    def random_state(self) -> dict[str, Any]:
        """States of all random generators, for a checkpoint."""
        return {str(i): each.np_random.bit_generator.state for i, each in enumerate(self._environments)}

    def set_random_state(self, state: dict[str, Any]) -> None:
        """Put them back; the next reset goes on from there."""
        self._seed = None
        for i, each in enumerate(self._environments):
            each.np_random.bit_generator.state = state[str(i)]

    def reset(self) -> States:
        """Start B new episodes; returns their first states, float32 (B, 10 N)."""
        seeds = [None if self._seed is None else self._seed + i for i in range(self.n_envs)]
        self._seed = None
        return np.stack([each.reset(seed=seed)[0] for each, seed in zip(self._environments, seeds, strict=True)])

    def step(self, actions: Actions) -> VectorStep:
        """Apply steps float32 (B, 3) on the networks' scale and scan again."""
        results = [each.step(action) for each, action in zip(self._environments, actions, strict=True)]
        next_states, rewards, terminated, truncated, infos = zip(*results, strict=True)
        states = [
            each.reset()[0] if done or late else state
            for each, state, done, late in zip(self._environments, next_states, terminated, truncated, strict=True)
        ]
        return VectorStep(
            next_states=np.stack(next_states),
            states=np.stack(states),
            rewards=np.array(rewards, np.float64),
            terminated=np.array(terminated),
            truncated=np.array(truncated),
            truly_good=np.array([info["truly_good"] for info in infos]),
            quality=np.array([info["quality"] for info in infos], np.float64),
            frames=np.array([info["frames"] for info in infos], np.int64),
        )
