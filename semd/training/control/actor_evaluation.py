"""Evaluation of an actor: greedy episodes, counted once each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from semd.domain.state import Actions, States
from semd.simulator.vector_environment import VectorEnvironment

BatchPolicy = Callable[[States], Actions]
"""States float32 (B, 10 N) to steps float32 (B, 3) on the networks' scale."""

WITHIN_FRAMES = 25
"""The paper's mark: the best image within 25 frames."""


@dataclass(frozen=True, slots=True)
class ControlFigures:
    """Figures of an evaluation.

    Attributes:
        episodes: episodes run.
        success: share that passed the stop rule within the time limit.
        success_25: share that passed it within 25 frames, the first frame included.
        true_success_25: share that did so on a frame good by the truth (quality >= 9, exposure suits).
        median_frames: median of the frames taken by episodes that passed, or None.
        p90_frames: their 90th percentile, or None.
        passed_quality: mean true focus quality of the frames that passed, or None.
        final_quality: the same of all last frames.
    """

    episodes: int
    success: float
    success_25: float
    true_success_25: float
    median_frames: float | None
    p90_frames: float | None
    passed_quality: float | None
    final_quality: float

    def to_json(self) -> str:
        """One JSON object in one line."""
        rounded = {name: value if value is None else round(value, 4) for name, value in asdict(self).items()}
        return json.dumps(rounded)


def evaluate(policy: BatchPolicy, environment: VectorEnvironment) -> ControlFigures:
    """Run one greedy episode on each of the environment's microscopes.

    Exactly the first episode of each counts: counting whatever ends first would favour short ones.
    """
    states = environment.reset()
    count = environment.n_envs
    open_ = np.ones(count, bool)
    passed, good = np.zeros(count, bool), np.zeros(count, bool)
    frames, quality = np.zeros(count, np.int64), np.zeros(count)
    while open_.any():
        step = environment.step(policy(states))
        ended = open_ & (step.terminated | step.truncated)
        passed[ended] = step.terminated[ended]
        good[ended] = step.truly_good[ended]
        frames[ended] = step.frames[ended]
        quality[ended] = step.quality[ended]
        open_ &= ~ended
        states = step.states
    soon = passed & (frames <= WITHIN_FRAMES)
    taken = frames[passed]
    return ControlFigures(
        episodes=count,
        success=float(passed.mean()),
        success_25=float(soon.mean()),
        true_success_25=float((soon & good).mean()),
        median_frames=float(np.median(taken)) if passed.any() else None,
        p90_frames=float(np.percentile(taken, 90)) if passed.any() else None,
        passed_quality=float(quality[passed].mean()) if passed.any() else None,
        final_quality=float(quality.mean()),
    )
