"""Training the control machine: Algorithm 1's loop, with curve, checkpoints and resumption."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from semd.control.actor_weights import actor_bytes
from semd.control.networks import Actor
from semd.domain.axes import AXES
from semd.domain.state import FEATURES_PER_FRAME, BoolArray, States
from semd.errors import TrainingError
from semd.simulator.vector_environment import VectorEnvironment, VectorStep
from semd.training.control.actor_evaluation import BatchPolicy, ControlFigures
from semd.training.control.control_checkpoint import load_checkpoint, save_checkpoint
from semd.training.control.control_settings import ControlTrainingConfig
from semd.training.control.ddpg import Ddpg
from semd.training.control.experience import Experience
from semd.training.control.mixed_replay import MixedReplay
from semd.training.control.replay_buffer import PrioritisedReplay, Replay
from semd.training.control.stopwatch import Stopwatch

Evaluation = Callable[[BatchPolicy], ControlFigures]

CURVE = "curve.csv"
BEST, LAST = "actor_best.safetensors", "actor_last.safetensors"
_COLUMNS = [
    "frames", "updates", "episodes", "epsilon", "critic_loss", "value", "train_success", "train_frames",
    "success_25", "true_success_25", "median_frames", "p90_frames", "passed_quality",
]  # fmt: skip
_RECENT = 500
_FREE_ON_RESUME = (
    "max_frames",
    "episodes",
    "critic_first_updates",
    "threads",
    "evaluate_every",
    "evaluate_episodes",
    "checkpoint_every",
)
_UNNAMED = {"critic_first_updates": 0, "anchor": 0.0, "records_share": 0.0}
"""What older checkpoints, which do not name these, were made with."""


@dataclass(slots=True)
class _Tally:
    """Counters of a training."""

    frames: int = 0
    updates: int = 0
    episodes: int = 0
    best: ControlFigures | None = None
    losses: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_RECENT))
    ends: deque[tuple[bool, int]] = field(default_factory=lambda: deque(maxlen=_RECENT))


@dataclass(frozen=True, slots=True)
class ControlTrainingResult:
    """Result of a training.

    Attributes:
        frames: frames taken.
        updates: updates done.
        episodes: episodes ended.
        best: figures of the weights in `best_path`.
        last: figures of the weights in `last_path`.
        best_path: weights with the most true successes in an evaluation.
        last_path: weights at the end.
        stopwatch: where the time went.
    """

    frames: int
    updates: int
    episodes: int
    best: ControlFigures
    last: ControlFigures
    best_path: Path
    last_path: Path
    stopwatch: Stopwatch


def train_control(
    config: ControlTrainingConfig,
    environment: VectorEnvironment,
    evaluation: Evaluation,
    run_dir: Path,
    *,
    start: Actor | None = None,
    experience: Experience | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> ControlTrainingResult:
    """Train until the frames or the episodes are spent.

    Ctrl+C and a kill leave the last checkpoint; `resume` goes on from it with the same weights, optimisers,
    transitions and random streams, the running episodes started anew.

    Args:
        config: the settings.
        environment: `config.n_envs` microscopes.
        evaluation: plays greedy episodes with a policy, always the same ones.
        run_dir: where curve, checkpoint and weights go; created if need be.
        start: weights to begin with instead of random ones; a resumed training has its own.
        experience: recorded transitions, `config.records_share` of every batch; the same ones on resumption.
        resume: go on from the checkpoint there.
        console: where the progress bar goes; None for standard error.

    Raises:
        TrainingError: the environment's size differs, the start or the recorded transitions do not fit the
            settings, nothing to resume, or the loss is not finite.
    """
    if environment.n_envs != config.n_envs:
        raise TrainingError(f"{environment.n_envs} microscopes; the settings say n_envs = {config.n_envs}")
    torch.set_num_threads(config.threads)
    run_dir.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([config.seed, 1])
    learner = Ddpg(config, torch.Generator().manual_seed(config.seed))
    if start is not None:
        learner.start_from(start)
    replay = _make_replay(config, experience)
    tally = _Tally()
    if resume:
        _restore(run_dir, config, learner, replay, tally, rng, environment)
    curve = _Curve(run_dir / CURVE, tally.updates if resume else None)

    states = environment.reset()
    figures: ControlFigures | None = None
    stopwatch = Stopwatch(frames=-tally.frames)
    with _progress(console) as progress:
        task = progress.add_task("training", total=config.max_frames, completed=tally.frames, figures="")
        while not _is_over(config, tally):
            share = _share(config, tally)
            with stopwatch.measure("environment"):
                states = _one_step(config, learner, replay, environment, states, tally, rng, share)
            for _ in range(config.updates_per_step if tally.frames >= config.warmup_frames else 0):
                with stopwatch.measure("learning"):
                    _one_update(config, learner, replay, tally, rng, share)
                if tally.updates % config.evaluate_every == 0 and tally.updates > config.critic_first_updates:
                    with stopwatch.measure("evaluation"):
                        figures = _evaluate(evaluation, learner, tally, run_dir)
                    curve.add(tally, figures, _epsilon(config, share))
                if tally.updates % config.checkpoint_every == 0:
                    save_checkpoint(run_dir, learner, replay, _checkpoint_state(config, tally, rng, environment))
            progress.update(task, completed=tally.frames, figures=_shown(figures))
    with stopwatch.measure("evaluation"):
        figures = _evaluate(evaluation, learner, tally, run_dir)
    stopwatch.frames += tally.frames
    curve.add(tally, figures, _epsilon(config, 1.0))
    save_checkpoint(run_dir, learner, replay, _checkpoint_state(config, tally, rng, environment))
    best = tally.best or figures
    return ControlTrainingResult(
        tally.frames, tally.updates, tally.episodes, best, figures, run_dir / BEST, run_dir / LAST, stopwatch
    )


def _make_replay(config: ControlTrainingConfig, experience: Experience | None) -> Replay:
    """The replay buffer, with the recorded transitions in it if there are any."""
    state_size = FEATURES_PER_FRAME * config.n_frames
    replay = PrioritisedReplay(config.buffer_size, state_size, len(AXES), config.kappa, config.zeta)
    if experience is None:
        if config.records_share:
            raise TrainingError(f"records_share = {config.records_share:g}, but there are no recorded transitions")
        return replay
    experience.require_fit(state_size)
    recorded = PrioritisedReplay(len(experience), state_size, len(AXES), config.kappa, config.zeta)
    # Nobody knows the truth at the instrument; the daemon says DONE only where the score is sure or confirmed.
    rewards = _learned_rewards(config, experience.rewards, experience.terminated)
    recorded.add(experience.states, experience.actions, rewards, experience.next_states, experience.terminated)
    return MixedReplay(replay, recorded, config.records_share)


def _learned_rewards(
    config: ControlTrainingConfig, rewards: NDArray[np.float64], passed: BoolArray
) -> NDArray[np.float64]:
    """(6) on the critic's scale, with the bonus for frames that passed and are good."""
    return (rewards - config.reward_offset) / config.reward_scale + config.success_bonus * passed


def _one_step(
    config: ControlTrainingConfig,
    learner: Ddpg,
    replay: Replay,
    environment: VectorEnvironment,
    states: States,
    tally: _Tally,
    rng: np.random.Generator,
    share: float,
) -> States:
    """Act (10), observe, remember; returns the states to act on next."""
    if tally.frames < config.warmup_frames:
        bound = learner.actor.bound.numpy()
        actions = rng.uniform(-bound, bound, (config.n_envs, len(bound))).astype(np.float32)
    else:
        actions = learner.explore(states, _epsilon(config, share), rng)
    step = environment.step(actions)
    rewards = _learned_rewards(config, step.rewards, step.terminated & step.truly_good)
    replay.add(states, actions, rewards, step.next_states, step.terminated)
    _count(tally, step)
    return step.states


def _one_update(
    config: ControlTrainingConfig,
    learner: Ddpg,
    replay: Replay,
    tally: _Tally,
    rng: np.random.Generator,
    share: float,
) -> None:
    learner.anneal(share)
    batch = replay.draw(config.batch_size, rng)
    update = learner.update(batch, critic_only=tally.updates < config.critic_first_updates)
    replay.set_priorities(batch.indices, update.td_errors)
    tally.updates += 1
    tally.losses.append((update.critic_loss, update.value))


def _count(tally: _Tally, step: VectorStep) -> None:
    tally.frames += len(step.rewards)
    for place in np.flatnonzero(step.terminated | step.truncated):
        tally.episodes += 1
        tally.ends.append((bool(step.terminated[place]), int(step.frames[place])))


def _evaluate(evaluation: Evaluation, learner: Ddpg, tally: _Tally, run_dir: Path) -> ControlFigures:
    """Evaluate, and keep the weights: always as the last, and as the best when they are."""
    figures = evaluation(learner.act)
    data = actor_bytes(learner.actor)
    _write(run_dir / LAST, data)
    if tally.best is None or figures.true_success_25 > tally.best.true_success_25:
        tally.best = figures
        _write(run_dir / BEST, data)
    return figures


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def _share(config: ControlTrainingConfig, tally: _Tally) -> float:
    """Share of the training that is done, 0..1."""
    by_episodes = tally.episodes / config.episodes if config.episodes else 0.0
    return min(1.0, max(tally.frames / config.max_frames, by_episodes))


def _is_over(config: ControlTrainingConfig, tally: _Tally) -> bool:
    return _share(config, tally) >= 1.0


def _epsilon(config: ControlTrainingConfig, share: float) -> float:
    """Probability of acting greedily: a straight rise, then level."""
    risen = min(1.0, share / config.epsilon_share)
    return config.epsilon_start + (config.epsilon_end - config.epsilon_start) * risen


def _shown(figures: ControlFigures | None) -> str:
    if figures is None:
        return ""
    median = "" if figures.median_frames is None else f", median {figures.median_frames:g}"
    return f"{figures.success_25:.1%} within 25{median}"


def _progress(console: Console | None) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} frames"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
        console=console or Console(stderr=True),
    )


def _checkpoint_state(
    config: ControlTrainingConfig, tally: _Tally, rng: np.random.Generator, environment: VectorEnvironment
) -> dict[str, Any]:
    return {
        "config": asdict(config),
        "tally": {
            "frames": tally.frames,
            "updates": tally.updates,
            "episodes": tally.episodes,
            "best": asdict(tally.best) if tally.best is not None else None,
            "losses": list(tally.losses),
            "ends": list(tally.ends),
        },
        "rng": rng.bit_generator.state,
        "environment": environment.random_state(),
    }


def _restore(
    run_dir: Path,
    config: ControlTrainingConfig,
    learner: Ddpg,
    replay: Replay,
    tally: _Tally,
    rng: np.random.Generator,
    environment: VectorEnvironment,
) -> None:
    progress = load_checkpoint(run_dir, learner, replay)
    if progress is None:
        raise TrainingError(f"{run_dir}: no checkpoint to resume from")
    was, now = progress["config"], asdict(config)
    changed = [name for name in now if name not in _FREE_ON_RESUME and now[name] != was.get(name, _UNNAMED.get(name))]
    if changed:
        raise TrainingError(f"{run_dir}: the checkpoint was made with other settings: {', '.join(changed)}")
    saved = progress["tally"]
    tally.frames, tally.updates, tally.episodes = saved["frames"], saved["updates"], saved["episodes"]
    tally.best = ControlFigures(**saved["best"]) if saved["best"] is not None else None
    tally.losses.extend((loss, value) for loss, value in saved["losses"])
    tally.ends.extend((ended, frames) for ended, frames in saved["ends"])
    rng.bit_generator.state = progress["rng"]
    environment.set_random_state(progress["environment"])


class _Curve:
    """The learning curve as CSV; on resumption rows beyond the checkpoint are dropped."""

    def __init__(self, path: Path, keep_updates: int | None) -> None:
        self._path = path
        rows: list[list[str]] = []
        if keep_updates is not None and path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in list(csv.reader(file))[1:] if int(row[1]) <= keep_updates]
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([_COLUMNS, *rows])

    def add(self, tally: _Tally, figures: ControlFigures, epsilon: float) -> None:
        """Add a row; missing figures stay empty."""
        loss, value = np.mean(tally.losses, axis=0) if tally.losses else (None, None)
        success, frames = np.mean(tally.ends, axis=0) if tally.ends else (None, None)
        numbers = (
            epsilon, loss, value, success, frames, figures.success_25, figures.true_success_25,
            figures.median_frames, figures.p90_frames, figures.passed_quality,
        )  # fmt: skip
        with self._path.open("a", newline="", encoding="utf-8") as file:
            shown = ["" if number is None else f"{number:.4f}" for number in numbers]
            csv.writer(file).writerow([tally.frames, tally.updates, tally.episodes, *shown])
