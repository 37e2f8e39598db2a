"""Rollouts on rendered frames: environments over the image simulator and the real scorer, in actors of Ray.

What comes out does not depend on how many workers share the environments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from semd.domain.state import Actions, States
from semd.errors import TrainingError
from semd.model_store import default_directory, load_model
from semd.scoring.scorer import Scorer
from semd.simulator.simulated_microscope import draw_microscope
from semd.simulator.twin_scene import SceneRanges
from semd.simulator.vector_environment import VectorStep
from semd.training.control.control_settings import ControlTrainingConfig
from semd.training.control.environment import SemEnvironment
from semd.training.control.environment_batch import EnvironmentBatch

MakeBatch = Callable[[int, int], EnvironmentBatch]
"""Environments of a worker, from the place of its first among all and their number."""


def image_environments(config: ControlTrainingConfig, models: Path | None = None) -> MakeBatch:
    """Environments to train on rendered frames with, by the rules that the twin trains by.

    Args:
        config: N, rho, reward, exposure to aim at, time limit and seed.
        models: folder with the manifest, on every machine of the cluster; None for the weights that came with semd.
    """
    return partial(_make_batch, config, models)


def _make_batch(config: ControlTrainingConfig, models: Path | None, first: int, count: int) -> EnvironmentBatch:
    scorer = Scorer.load(load_model(models or default_directory(), "scorer").data)
    frames = config.time_limit + 1
    # Nothing but the time ends what the actor does, or takes the knobs from it.
    rules = config.rules()
    constants = replace(rules.constants, barren_steps=frames)
    rules = replace(rules, max_steps=frames, patience_steps=frames, constants=constants)
    environments = [
        SemEnvironment(draw_microscope, scorer.score, rules, SceneRanges().score_noise) for _ in range(count)
    ]
    return EnvironmentBatch(environments, config.seed + first)


class RemoteEnvironment:
    """A `control.vector.VectorEnvironment` whose B microscopes step in W workers at the same time."""

    def __init__(self, ray: Any, make: MakeBatch, n_envs: int, workers: int) -> None:
        """Start the workers; see `ray_cluster.cluster` for `ray`.

        Args:
            ray: Ray, connected to a cluster.
            make: makes a worker's environments, there.
            n_envs: B.
            workers: W; more than B are of no use and not started.

        Raises:
            TrainingError: fewer than one environment or worker, or more workers than the cluster has processors.
        """
        if n_envs < 1 or workers < 1:
            raise TrainingError(f"at least one environment and one worker, not {n_envs} and {workers}")
        processors = int(ray.cluster_resources().get("CPU", 0))
        if min(workers, n_envs) > processors:
            # Ray would wait for more of them without end.
            raise TrainingError(f"{workers} workers, but the cluster has {processors} processors")
        self._ray = ray
        edges = np.linspace(0, n_envs, min(workers, n_envs) + 1).round().astype(int).tolist()
        self._shards = [slice(low, high) for low, high in pairwise(edges)]
        worker = ray.remote(num_cpus=1)(_Worker)
        self._workers = [worker.remote(make, shard.start, shard.stop - shard.start) for shard in self._shards]

    @property
    def n_envs(self) -> int:
        """B."""
        return int(self._shards[-1].stop)

    def reset(self) -> States:
        """Start B new episodes; returns their first states, float32 (B, 10 N).

        Raises:
            TrainingError: a worker was lost; so in all methods.
        """
        return np.concatenate(self._gather([worker.reset.remote() for worker in self._workers]))

    def step(self, actions: Actions) -> VectorStep:
        """Apply steps float32 (B, 3) on the networks' scale and scan again."""
        pairs = zip(self._workers, self._shards, strict=True)
        parts: list[VectorStep] = self._gather([worker.step.remote(actions[shard]) for worker, shard in pairs])
        names = [each.name for each in fields(VectorStep)]
        return VectorStep(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    def random_state(self) -> dict[str, Any]:
        """States of all random generators, as one `EnvironmentBatch` of all environments would give them."""
        parts = self._gather([worker.random_state.remote() for worker in self._workers])
        return {
            str(shard.start + int(place)): state
            for shard, part in zip(self._shards, parts, strict=True)
            for place, state in part.items()
        }

    def set_random_state(self, state: dict[str, Any]) -> None:
        """Put them back; the next reset goes on from there."""
        self._gather(
            [
                worker.set_random_state.remote(
                    {str(place): state[str(shard.start + place)] for place in range(shard.stop - shard.start)}
                )
                for worker, shard in zip(self._workers, self._shards, strict=True)
            ]
        )

    def _gather(self, references: list[Any]) -> list[Any]:
        try:
            found: list[Any] = self._ray.get(references)
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise TrainingError(f"a worker was lost: {reason}; --resume goes on from the last checkpoint") from error
        return found


class _Worker:
    """One worker's share of the environments."""

    def __init__(self, make: MakeBatch, first: int, count: int) -> None:
        self._batch = make(first, count)

    def reset(self) -> States:
        return self._batch.reset()

    def step(self, actions: Actions) -> VectorStep:
        return self._batch.step(actions)

    def random_state(self) -> dict[str, Any]:
        return self._batch.random_state()

    def set_random_state(self, state: dict[str, Any]) -> None:
        self._batch.set_random_state(state)
