"""A toy environment whose best policy is known, and a training that takes a second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from semd.domain.state import Actions, States
from semd.simulator.vector_environment import VectorStep
from semd.training.control.actor_evaluation import evaluate
from semd.training.control.control_settings import DEFAULT
from semd.training.control.control_training import ControlTrainingResult, train_control

QUIET = Console(quiet=True)
CONFIG = replace(
    DEFAULT,
    n_envs=4,
    n_frames=1,
    max_frames=320,
    warmup_frames=64,
    batch_size=16,
    evaluate_every=32,
    checkpoint_every=16,
    time_limit=5,
    buffer_size=500,
)


class Toy:
    """Microscopes with one knob: bring the first feature to zero; moves by the first action."""

    def __init__(self, n_envs: int, seed: int, time_limit: int = 5) -> None:
        self.n_envs = n_envs
        self._rng = np.random.default_rng(seed)
        self._time_limit = time_limit
        self._steps = np.zeros(n_envs, int)
        self._place = np.zeros(n_envs)

    def random_state(self) -> dict:
        return dict(self._rng.bit_generator.state)

    def set_random_state(self, state: dict) -> None:
        self._rng.bit_generator.state = state

    def _states(self) -> States:
        states = np.zeros((self.n_envs, 10), np.float32)
        states[:, 0] = self._place
        return states

    def reset(self) -> States:
        self._place = self._rng.uniform(-1, 1, self.n_envs)
        self._steps[:] = 0
        return self._states()

    def step(self, actions: Actions) -> VectorStep:
        self._place = self._place + actions[:, 0]
        self._steps += 1
        terminated = np.abs(self._place) < 0.1
        truncated = (self._steps >= self._time_limit) & ~terminated
        next_states, frames, place = self._states(), self._steps + 1, self._place.copy()
        ended = terminated | truncated
        self._place = np.where(ended, self._rng.uniform(-1, 1, self.n_envs), self._place)
        self._steps = np.where(ended, 0, self._steps)
        quality = 10.0 - np.abs(place)
        return VectorStep(
            next_states,
            self._states(),
            quality,
            terminated,
            truncated,
            terminated & (place > 0),
            quality,
            frames,
        )


def train(run_dir: Path, *, resume: bool = False, **changes: object) -> ControlTrainingResult:
    config = replace(CONFIG, **changes)
    return train_control(
        config,
        Toy(config.n_envs, 1),
        lambda policy: evaluate(policy, Toy(8, 2)),
        run_dir,
        resume=resume,
        console=QUIET,
    )
