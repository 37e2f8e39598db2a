"""Feature-level twin: B simulated microscopes without rendered frames, for training the control machine.

The twin returns the measurements of a frame instead of the frame; a step of 64 microscopes takes about 1 ms. State,
reward and stop rule equal those of the domain; the tests compare both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from semd.decision.rules import RunRules
from semd.domain.axes import Axis
from semd.domain.state import FEATURES_PER_FRAME, Actions, States
from semd.simulator.twin_frames import Frames, exposure_defect, take_frames
from semd.simulator.twin_scene import Column, SceneRanges, Scenes, draw_scenes
from semd.simulator.vector_environment import VectorStep

_WD_STEP_U = 0.003
"""Resolution of the working distance in a parameter text, in u: 0.1 um at x10000."""
_KNOB_STEP = 0.01
_GOOD_QUALITY = 9.0


class Twin:
    """`VectorEnvironment` over random scenes.

    Attributes:
        knobs: float64 (B, 3): working distance in u from the start, brightness, contrast.
        scenes: current scenes.
        frames: latest measurements.
    """

    def __init__(
        self, n_envs: int, rules: RunRules, time_limit: int, seed: int, ranges: SceneRanges | None = None
    ) -> None:
        """Set up the environment; `reset` draws the scenes.

        Args:
            n_envs: number of microscopes, B.
            rules: rules of the runs: N, rho, reward weights, threshold, exposure range and window in focus units.
            time_limit: largest number of steps of an episode, T.
            seed: seed of all draws.
            ranges: ranges of the scenes.
        """
        self._rules = rules
        self._time_limit = time_limit
        self._ranges = ranges or SceneRanges()
        self._rng = np.random.default_rng(seed)
        self._n_envs = n_envs
        window_u = rules.optics.window if rules.optics is not None else 60.0
        limits = [rules.limits[axis] for axis in (Axis.BRIGHTNESS, Axis.CONTRAST)]
        self._centre = np.array([0.0, *((limit.low + limit.high) / 2.0 for limit in limits)])
        self._half_width = np.array([window_u / 2.0, *(limit.span / 2.0 for limit in limits)])
        self._low = np.array([limit.low for limit in limits])
        self._high = np.array([limit.high for limit in limits])
        self.knobs: Column = np.zeros((n_envs, 3))
        self._lag_u: Column = np.zeros(n_envs)
        self._steps = np.zeros(n_envs, np.int64)
        self._history: States = np.zeros((n_envs, rules.n_frames, FEATURES_PER_FRAME), np.float32)
        self.scenes: Scenes
        self.frames: Frames

    @property
    def n_envs(self) -> int:
        """Number of microscopes, B."""
        return self._n_envs

    def random_state(self) -> dict[str, Any]:
        """State of the random generator, for a checkpoint."""
        return dict(self._rng.bit_generator.state)

    def set_random_state(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `random_state`."""
        self._rng.bit_generator.state = state

    def reset(self) -> States:
        """Start B new episodes; returns their first states, float32 (B, 10 N)."""
        self.scenes = draw_scenes(self._n_envs, self._ranges, self._rng)
        self._begin(np.arange(self._n_envs))
        return self._states()

    def step(self, actions: Actions) -> VectorStep:
        """Move by steps float32 (B, 3) on the networks' scale, scan, and start new episodes where one ended."""
        before = self.knobs
        self.knobs = self._moved(np.asarray(actions, np.float64))
        travel = self.knobs[:, 0] - before[:, 0]
        self._lag_u = np.where(travel == 0.0, self._lag_u, -np.sign(travel) * self.scenes.backlash_u)
        self.scenes.focus_u += self.scenes.drift_u * self._rng.standard_normal(self._n_envs)
        self._steps += 1
        self.frames = self._scan()
        moved = (self.knobs - before) / (2.0 * self._rules.rho * self._half_width)
        self._history = np.concatenate((self._history[:, 1:], self._features(moved)[:, None]), axis=1)

        defect = self._defect()
        exposed = (defect == 0.0) | (self.scenes.wd_only > 0.0)
        terminated = (self.frames.score > self._rules.accept_score) & exposed
        truncated = (self._steps >= self._time_limit) & ~terminated
        exposure_ok = self.frames.exposure_ok | (self.scenes.wd_only > 0.0)
        step = {
            "next_states": self._states(),
            "rewards": self._rewards(defect),
            "terminated": terminated,
            "truncated": truncated,
            "truly_good": (self.frames.quality >= _GOOD_QUALITY) & exposure_ok,
            "quality": self.frames.quality.copy(),
            "frames": self._steps + 1,
        }
        ended = np.flatnonzero(terminated | truncated)
        if len(ended):
            self.scenes.replace_rows(ended, draw_scenes(len(ended), self._ranges, self._rng))
            self._begin(ended)
        return VectorStep(states=self._states(), **step)

    def _begin(self, rows: NDArray[np.int64]) -> None:
        """Start episodes at 0 u; brightness and contrast start anywhere, or near their optimum if not controlled."""
        count = len(rows)
        knobs = np.column_stack((np.zeros(count), self._rng.uniform(self._low, self._high, (count, 2))))
        near = np.column_stack((self.scenes.brightness_at[rows], self.scenes.contrast_at[rows]))
        near += self._rng.uniform(-8.0, 8.0, (count, 2))
        fixed = self.scenes.wd_only[rows] > 0.0
        knobs[fixed, 1:] = near[fixed]
        self.knobs[rows] = _rounded_as_text(knobs)
        self._lag_u[rows] = 0.0
        self._steps[rows] = 0
        frames = self._scan()
        if count < self._n_envs:
            for name in Frames.__dataclass_fields__:
                kept = getattr(self.frames, name)
                kept[rows] = getattr(frames, name)[rows]
        else:
            self.frames = frames
        self._history[rows] = self._features(np.zeros((self._n_envs, 3)))[rows, None]

    def _moved(self, actions: Column) -> Column:
        """Equations (4) and (5) with the rounding of the parameter texts; knobs, float64 (B, 3)."""
        bound = 2.0 * self._rules.rho
        controlled = np.ones((self._n_envs, 3))
        controlled[:, 1:] -= self.scenes.wd_only[:, None]
        target = self.knobs + controlled * np.clip(actions, -bound, bound) * self._half_width
        low = np.column_stack((self.scenes.low_u, np.broadcast_to(self._low, (self._n_envs, 2))))
        high = np.column_stack((self.scenes.high_u, np.broadcast_to(self._high, (self._n_envs, 2))))
        return _rounded_as_text(np.clip(target, low, high))

    def _scan(self) -> Frames:
        wd_u, brightness, contrast = self.knobs.T
        return take_frames(self.scenes, wd_u + self._lag_u, brightness, contrast, self._rules.exposure, self._rng)

    def _features(self, moved: Column) -> States:
        """Equation (2), float32 (B, 10): `domain.state.frame_features` for B frames at once."""
        frames = self.frames
        position = (self.knobs - self._centre) / self._half_width
        shown = np.ones((self._n_envs, 3))
        shown[:, 1:] -= self.scenes.wd_only[:, None]
        measured = np.column_stack((frames.score / 10.0, frames.avg, frames.grd, frames.var))
        return np.concatenate((measured, position * shown, moved * shown), axis=1).astype(np.float32)

    def _states(self) -> States:
        """Equation (3), float32 (B, 10 N)."""
        return self._history.reshape(self._n_envs, -1).copy()

    def _defect(self) -> Column:
        frames = self.frames
        return exposure_defect(frames.black, frames.white, frames.level, frames.contrast, self._rules.exposure)

    def _rewards(self, defect: Column) -> Column:
        """Equation (6): `domain.reward.reward` for B frames at once."""
        weights, frames = self._rules.weights, self.frames
        rewards: Column = frames.score + weights.c1 * frames.grd + weights.c2 * frames.var - weights.c_exposure * defect
        return rewards


def _rounded_as_text(knobs: Column) -> Column:
    """Round to what the text files carry."""
    steps = np.array([_WD_STEP_U, _KNOB_STEP, _KNOB_STEP])
    rounded: Column = np.rint(knobs / steps) * steps
    return rounded
