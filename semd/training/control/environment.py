"""A microscope and a scoring machine as a Gymnasium environment, with the daemon's own rules."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from semd.decision.decide import decide
from semd.decision.rules import RunRules
from semd.decision.run import Decision, Run, advance, run_state, run_window
from semd.domain.axes import AXES
from semd.domain.observation import Observation
from semd.domain.state import FEATURES_PER_FRAME
from semd.errors import TrainingError
from semd.protocol.action import Status
from semd.simulator.microscope_interface import Microscope, Score, Shot, observe

_STATE_BOUND = 100.0
_GOOD_QUALITY = 9.0
_MOST_REDRAWS = 50
_BEST_SCORE = 10.0

State = NDArray[np.float32]


class SemEnvironment(gymnasium.Env[State, NDArray[np.float32]]):
    """Episodes on microscopes drawn from a seed.

    Observation: the state (3), float32 (10 N,). Action: steps of WD, brightness and contrast on the
    networks' scale, float32 (3,), within 2 rho. Reward: (6). Terminated: the frame passed (DONE).
    Truncated: GIVE-UP, which the rules call for when the steps are spent or there is nothing to focus on.
    A frame that the rules answer with HOLD is scanned again within the same step.

    `info` holds `frames`, of the truth `quality` and `truly_good`, and `score_sigma`, the standard deviation of the
    noise that this episode's scores carry.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own declaration)

    def __init__(
        self, make: Callable[[int], Microscope], score: Score, rules: RunRules, score_noise: float = 0.0
    ) -> None:
        """Set up.

        Args:
            make: builds the microscope of an episode from a seed.
            score: the scoring machine.
            rules: N, rho, limits, stop rule and reward; `max_steps` is the time limit. `fits_focus` is taken as False.
            score_noise: largest standard deviation, in points, of a noise on top of the scores; every episode draws
                its own from 0 up to this.

        Raises:
            TrainingError: `score_noise` is negative or not finite.
        """
        if not 0.0 <= score_noise < math.inf:
            raise TrainingError(f"score_noise must be a finite number from 0 up, not {score_noise}")
        self._make = make
        self._score = score
        self._score_noise = score_noise
        self._score_sigma = 0.0
        # Here the steps are the learner's own, and its scores stand alone.
        self._rules = replace(rules, fits_focus=False)
        bound = 2.0 * rules.rho
        size = FEATURES_PER_FRAME * rules.n_frames
        self.observation_space = Box(-_STATE_BOUND, _STATE_BOUND, (size,), np.float32)
        self.action_space = Box(-bound, bound, (len(AXES),), np.float32)
        self._microscope: Microscope
        self._run: Run | None = None
        self._frame: Observation
        self._shot: Shot

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[State, dict[str, Any]]:
        """Start an episode; fields whose first frame already ends the run are passed over.

        Raises:
            TrainingError: fifty fields in a row ended with their first frame.
        """
        super().reset(seed=seed, options=options)
        for _ in range(_MOST_REDRAWS):
            self._microscope = self._make(int(self.np_random.integers(2**31)))
            self._score_sigma = float(self.np_random.uniform(0.0, self._score_noise)) if self._score_noise else 0.0
            self._run = None
            if not self._look().status.is_terminal:
                return self._state(), self._info()
        raise TrainingError("every field ends with its first frame: the threshold is too low or all are blank")

    def step(self, action: NDArray[np.float32]) -> tuple[State, float, bool, bool, dict[str, Any]]:
        """Move by `action` and scan again; see the class."""
        decision = decide(self._run, self._frame, self._rules, lambda _: action)
        self._run = advance(self._run, self._frame, decision)
        self._microscope.apply(decision.targets)
        decision_after = self._look()
        terminated = decision_after.status is Status.DONE
        truncated = decision_after.status is Status.GIVE_UP
        return self._state(), float(decision_after.reward or 0.0), terminated, truncated, self._info()

    def _look(self) -> Decision:
        """Scan until the rules want a move or an end; returns how they answer the frame."""
        while True:
            self._shot = self._microscope.scan()
            self._frame = observe(self._shot, self._noisy_score, f"step-{self._run.steps if self._run else 0}")
            # The step is not chosen yet; at rest the decision tells whether one is wanted at all.
            decision = decide(self._run, self._frame, self._rules, _rest)
            if decision.status is not Status.HOLD:
                return decision
            self._run = advance(self._run, self._frame, decision)

    def _noisy_score(self, image: NDArray[np.uint8], magnification: float) -> float:
        score = self._score(image, magnification)
        # A blank frame stays at 0: noise must not raise it.
        if not self._score_sigma or score <= 0.0:
            return score
        return min(max(score + self._score_sigma * float(self.np_random.standard_normal()), 0.0), _BEST_SCORE)

    def _state(self) -> State:
        frames = (*(self._run.frames if self._run is not None else ()), self._frame)
        start = self._run.start if self._run is not None else self._frame.parameters
        return run_state(frames, run_window(start, self._rules), self._rules)

    def _info(self) -> dict[str, Any]:
        good = self._shot.quality >= _GOOD_QUALITY and self._shot.exposure_ok
        frames = (self._run.steps if self._run is not None else 0) + 1
        return {
            "frames": frames,
            "quality": self._shot.quality,
            "truly_good": bool(good),
            "score_sigma": self._score_sigma,
        }


def _rest(_: State) -> NDArray[np.float32]:
    return np.zeros(len(AXES), np.float32)
