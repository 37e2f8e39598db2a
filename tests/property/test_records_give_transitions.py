"""The daemon's records give the same transitions as an environment on the same microscope."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console

from semd.control.networks import Actor
from semd.control.policy import ActorPolicy
from semd.daemon.answering import Answerer
from semd.daemon.frame_files import FrameFolders
from semd.decision.rules import RunRules
from semd.decision.run import Policy, run_window
from semd.domain.axes import Axis, Parameters
from semd.domain.frame_score import FrameScore
from semd.domain.limits import Optics
from semd.inbox.frame import LoadedFrame
from semd.outbox.ledger import Ledger
from semd.outbox.spool import Spool
from semd.pipeline import Answer, Pipeline
from semd.simulator.microscope_interface import Microscope, Shot
from semd.simulator.simulated_microscope import draw_microscope
from semd.training.control.environment import SemEnvironment
from semd.training.control.recorded_transitions import Records, Skip, read_records

NOW = datetime(2026, 1, 2, tzinfo=UTC)
# The environment takes its own steps, and so does the daemon where no focus is fitted.
RULES = RunRules(n_frames=3, max_steps=9, fits_focus=False)
UNIT_MM = Optics().focus_unit_mm(1000.0)
Make = Callable[[], Microscope]


class Needle:
    """The grey of a frame's first pixel is 25 times its score; some frames are blank and are scanned again."""

    def __init__(self, seed: int, blank_share: float) -> None:
        self._rng = np.random.default_rng(seed)
        self._pattern = self._rng.integers(60, 200, (48, 64), dtype=np.uint8)
        self._blank_share = blank_share
        self._scans = 0
        self.values = {
            Axis.WD: round(10.0 + UNIT_MM * self._rng.uniform(2, 9), 4),
            Axis.BRIGHTNESS: 50.0,
            Axis.CONTRAST: 50.0,
        }

    def scan(self) -> Shot:
        self._scans += 1
        image = self._pattern.copy()
        image[0, 0] = round(25 * max(0.0, 10.0 - abs(self.values[Axis.WD] - 10.0) / UNIT_MM))
        if self._scans > 1 and self._rng.random() < self._blank_share:
            image[:] = 128
        return Shot(image, Parameters(1000.0, *self.values.values()))

    def apply(self, targets: Mapping[Axis, float]) -> None:
        self.values |= targets


def read_score(image: NDArray[np.uint8], magnification: float) -> float:
    return min(10.0, float(image[0, 0]) / 25.0)


@dataclass(frozen=True)
class StubScorer:
    score: Callable[[NDArray[np.uint8], float], float]

    def judge(self, image: NDArray[np.uint8], magnification: float) -> FrameScore:
        return FrameScore(self.score(image, magnification))


def lively(seed: int) -> Policy:
    """Leans towards the focus more or less, or too much, and swings beside it; the same for the same state."""
    lean, phase = (0.0, 0.4, 0.8, 1.0, 1.9)[seed % 5], seed % 7
    actor = ActorPolicy(Actor(RULES.n_frames, RULES.rho, torch.Generator().manual_seed(seed)))

    def policy(state: NDArray[np.float32]) -> NDArray[np.float32]:
        step = actor(state) + np.float32(0.3) * np.sin(40 * state[-10:-7] + phase) * np.array([0.2, 0.5, 0.5])
        step[0] -= lean * (10.0 - 10.0 * state[-10]) / 30.0
        return np.clip(step, -2 * RULES.rho, 2 * RULES.rho).astype(np.float32)

    return policy


class Listened:
    """A pipeline whose last targets are known; the Middle Client's part is not played here."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.models_digest = pipeline.models_digest
        self.targets: Mapping[Axis, float] = {}

    def answer(self, run, stem, parameters, image) -> Answer:
        answer = self._pipeline.answer(run, stem, parameters, image)
        self.targets = answer.decision.targets
        return answer


def record(root: Path, microscope: Microscope, pipeline: Pipeline) -> None:
    """The daemon's own way from a frame to the ledger, until the run has ended."""
    source = Listened(pipeline)
    with Ledger(root / "ledger.sqlite", now=lambda: NOW) as ledger:
        answerer = Answerer(
            source,
            ledger,
            Spool(root / "actions"),
            FrameFolders(None, root / "quarantine"),
            lifetime=timedelta(seconds=60),
            now=lambda: NOW,
            reload=lambda row: pytest.fail(f"{row} was left half-way"),
        )
        for number in range(99):
            shot = microscope.scan()
            digest = f"{number:064x}"
            path = root / f"frame-{number}.png"
            frame = LoadedFrame(path.stem, shot.image, None, shot.parameters, digest, digest, path, path)
            answerer.answer(frame, ((path.name, number),))
            assert answerer.last is not None
            if answerer.last[1].is_terminal:
                return
            microscope.apply(source.targets)


@dataclass(frozen=True)
class Went:
    """Transitions of the environment."""

    states: list[NDArray[np.float32]]
    actions: list[NDArray[np.float32]]
    rewards: list[float]
    ends: list[tuple[bool, bool]]


def play(make: Make, score: Callable, rules: RunRules, policy: Policy) -> Went:
    env = SemEnvironment(lambda _: make(), score, rules)
    state, _ = env.reset(seed=0)
    went = Went([state], [], [], [])
    while not went.ends or not any(went.ends[-1]):
        action = policy(state)
        state, gained, terminated, truncated, _ = env.step(action)
        went.states.append(state)
        went.actions.append(action)
        went.rewards.append(gained)
        went.ends.append((terminated, truncated))
    return went


def compare(make: Make, score: Callable, rules: RunRules, policy: Policy) -> tuple[Went, Records]:
    went = play(make, score, rules, policy)
    pipeline = Pipeline(StubScorer(score), policy, rules, "none")
    with tempfile.TemporaryDirectory() as name:
        record(Path(name), make(), pipeline)
        records = read_records(Path(name), rules, rules.weights, rules.exposure, Console(quiet=True))
    found = records.experience
    # The way back to the best frame is the rules' own; where it is too long for (5) it is left out.
    rows = [
        at
        for at, (before, after) in enumerate(zip(went.states, went.states[1:], strict=False))
        if (np.abs(after[-6:-3] - before[-6:-3]) <= 2 * rules.rho + 1e-4).all()
    ]
    assert records.skipped.get(Skip.BEYOND_BOUND, 0) == len(went.actions) - len(rows)
    assert np.array_equal(found.states, np.array(went.states)[rows])
    assert np.array_equal(found.next_states, np.array(went.states)[[at + 1 for at in rows]])
    assert np.array_equal(found.rewards, np.array(went.rewards)[rows])
    assert found.terminated.tolist() == [went.ends[at][0] for at in rows]
    # What was read, as the states tell it; and what was asked, but for the rounding of the files.
    told = np.array([went.states[at + 1][-6:-3] - went.states[at][-6:-3] for at in rows])
    np.testing.assert_allclose(found.actions, np.clip(told, -2 * rules.rho, 2 * rules.rho), atol=1e-5)
    return went, records


@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), blank_share=st.sampled_from([0.0, 0.3]))
def test_the_transitions_are_those_the_environment_saw(seed: int, blank_share: float) -> None:
    went, records = compare(lambda: Needle(seed, blank_share), read_score, RULES, lively(seed))
    assert records.frames == len(records.experience) + sum(records.skipped.values())
    # On its own way, and away from the limits, the microscope did what it was asked, but for the files' rounding.
    rounded = 1e-4 / run_window(Needle(seed, 0.0).scan().parameters, RULES).half_width[Axis.WD]
    assert np.abs(records.experience.actions[0] - went.actions[0]).max() < rounded


def test_on_the_virtual_microscope() -> None:
    def score(image: NDArray[np.uint8], magnification: float) -> float:
        return min(10.0, 2.0 + float(image.std()) / 10.0)

    make = lambda: draw_microscope(5)  # noqa: E731
    went, records = compare(make, score, replace(RULES, accept_score=9.9), lively(5))
    assert len(went.actions) >= 4
    assert records.skipped[Skip.ENDED] == 1


def test_the_needle_ends_in_every_way() -> None:
    """The comparison above would say little if all runs went alike."""
    ends, skips = set(), set()
    for seed in range(10):
        went, records = compare(lambda: Needle(seed, 0.3), read_score, RULES, lively(seed))  # noqa: B023
        ends.add(went.ends[-1])
        skips |= set(records.skipped)
    assert ends == {(True, False), (False, True)}
    assert {Skip.HOLD, Skip.BEYOND_BOUND} <= skips
