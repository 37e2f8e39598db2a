"""The Gymnasium environment, on a microscope simple enough to know the answers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import SyncVectorEnv

from semd.decision.rules import RunRules
from semd.decision.run import run_state, run_window
from semd.domain.axes import AXES, Axis, Parameters
from semd.domain.limits import Optics
from semd.domain.reward import reward
from semd.errors import TrainingError
from semd.simulator.microscope_interface import Shot, observe
from semd.simulator.simulated_microscope import MAGNIFICATIONS, draw_microscope
from semd.training.control.actor_evaluation import evaluate
from semd.training.control.environment import SemEnvironment
from semd.training.control.environment_batch import EnvironmentBatch

MAGNIFICATION = 1000.0
UNIT_MM = Optics().focus_unit_mm(MAGNIFICATION)
RULES = RunRules(max_steps=12)


class FakeMicroscope:
    """Focus at 10 mm; the frame holds 10 less the defocus in units, as the grey of its first pixel."""

    def __init__(self, seed: int, start_u: float | None = None, blanks: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.pattern = rng.integers(60, 200, (48, 64), dtype=np.uint8)
        self.wd_mm = 10.0 + UNIT_MM * (rng.uniform(3, 8) if start_u is None else start_u)
        self.wd_mm = round(self.wd_mm, 4)
        self.brightness, self.contrast = 50.0, 50.0
        self.blanks = blanks
        self.scans = 0

    @property
    def error_u(self) -> float:
        return (self.wd_mm - 10.0) / UNIT_MM

    def scan(self) -> Shot:
        self.scans += 1
        image = self.pattern.copy()
        image[0, 0] = round(25 * max(0.0, 10.0 - abs(self.error_u)))
        if self.scans in range(2, 2 + self.blanks):
            image[:] = 128
        parameters = Parameters(MAGNIFICATION, self.wd_mm, self.brightness, self.contrast)
        return Shot(image, parameters, 10.0 - abs(self.error_u), True, self.wd_mm - 10.0)

    def apply(self, targets: Mapping[Axis, float]) -> None:
        self.wd_mm = targets[Axis.WD]
        self.brightness, self.contrast = targets[Axis.BRIGHTNESS], targets[Axis.CONTRAST]


def read_score(image: np.ndarray, magnification: float) -> float:
    assert magnification == MAGNIFICATION
    return float(image[0, 0]) / 25.0


def environment(**changes: object) -> SemEnvironment:
    return SemEnvironment(FakeMicroscope, read_score, replace(RULES, **changes))


def down(units: float) -> np.ndarray:
    """Lower the working distance by this many focus units: 30 of them are 1 on the networks' scale."""
    return np.array([-units / 30.0, 0.0, 0.0], np.float32)


def test_check_env() -> None:
    with warnings.catch_warnings():
        # Gymnasium recommends bounds of 1; ours are (5)'s, which is the point of them.
        warnings.filterwarnings("ignore", message=".*symmetric and normalized.*")
        warnings.filterwarnings("ignore", message=".*not within the observation space limits.*")
        check_env(environment(), skip_render_check=True)


def test_state_and_reward_are_the_domains() -> None:
    env = SemEnvironment(lambda _: FakeMicroscope(3, start_u=8.0), read_score, RULES)
    first, _ = env.reset(seed=1)
    twin = FakeMicroscope(3, start_u=8.0)
    frames = [observe(twin.scan(), read_score, "0")]
    start = frames[0].parameters
    assert np.array_equal(first, run_state(tuple(frames), run_window(start, RULES), RULES))
    for units in (3.0, 2.0):
        state, gained, terminated, truncated, info = env.step(down(units))
        target_mm = round(twin.wd_mm - units * UNIT_MM, 4)
        twin.apply({Axis.WD: target_mm, Axis.BRIGHTNESS: 50.0, Axis.CONTRAST: 50.0})
        frames.append(observe(twin.scan(), read_score, "n"))
        assert frames[-1].measurement is not None
        assert np.array_equal(state, run_state(tuple(frames), run_window(start, RULES), RULES))
        assert gained == reward(frames[-1].measurement, RULES.weights, RULES.exposure)
        assert not terminated
        assert not truncated
        assert info["frames"] == len(frames)


def test_a_frame_that_passes_terminates() -> None:
    env = SemEnvironment(lambda _: FakeMicroscope(3, start_u=6.0), read_score, RULES)
    env.reset(seed=1)
    _, _, terminated, truncated, info = env.step(down(6.0))
    assert (terminated, truncated) == (True, False)
    assert info["truly_good"] is True
    assert info["quality"] == pytest.approx(10.0, abs=0.01)


def test_the_time_limit_truncates() -> None:
    env = environment(max_steps=4)
    env.reset(seed=1)
    ends = [env.step(down(0.0))[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


def test_a_blank_frame_is_scanned_again_within_the_step() -> None:
    microscope = FakeMicroscope(3, start_u=8.0, blanks=2)
    env = SemEnvironment(lambda _: microscope, read_score, RULES)
    env.reset(seed=1)
    state, _, _, truncated, _ = env.step(down(3.0))
    assert microscope.scans == 4
    assert not truncated
    assert state[-10] == pytest.approx(0.5, abs=0.01)  # the score of the frame that was not blank


def test_blank_frames_for_good_truncate() -> None:
    env = SemEnvironment(lambda _: FakeMicroscope(3, start_u=8.0, blanks=99), read_score, RULES)
    env.reset(seed=1)
    assert env.step(down(3.0))[2:4] == (False, True)


def test_fields_that_end_with_their_first_frame_are_passed_over() -> None:
    env = SemEnvironment(lambda _: FakeMicroscope(3, start_u=0.0), read_score, RULES)
    with pytest.raises(TrainingError, match="first frame"):
        env.reset(seed=1)


def test_the_same_seed_gives_the_same_episode() -> None:
    def episode() -> list[float]:
        env = environment()
        env.reset(seed=9)
        return [float(env.step(down(1.0))[1]) for _ in range(3)]

    assert episode() == episode()


def homing(state: np.ndarray) -> np.ndarray:
    """All starts of the fake lie above focus: go down by what the newest score lacks."""
    return down(min(10.0 - 10.0 * float(state[-10]), 12.0))


def test_check_env_on_rendered_frames() -> None:
    def seen_score(image: np.ndarray, magnification: float) -> float:
        return min(8.0, float(image.std()) / 16.0)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*symmetric and normalized.*")
        check_env(SemEnvironment(draw_microscope, seen_score, RULES), skip_render_check=True)


def test_a_stand_moves_and_reads_back_rounded() -> None:
    stand = draw_microscope(3)
    stand.apply({Axis.WD: 9.12346, Axis.BRIGHTNESS: 40.12345})
    contrast = stand.microscope.contrast
    shot = stand.scan()
    assert shot.parameters.controlled(AXES) == {
        Axis.WD: 9.1235,
        Axis.BRIGHTNESS: 40.123,
        Axis.CONTRAST: round(contrast, 3),
    }
    assert shot.wd_error_mm == pytest.approx(9.12346 - stand.microscope.focus_wd_mm)


def test_a_batch_restarts_within_the_step_and_keeps_both_states() -> None:
    batch = EnvironmentBatch([environment(), environment()], seed=4)
    states = batch.reset()
    actions = np.stack([homing(states[0]), down(0.0)])
    step = batch.step(actions)
    assert step.terminated.tolist() == [True, False]
    assert step.next_states[0, -10] > 0.9
    assert step.states[0, -10] < 0.9
    assert np.array_equal(step.next_states[1], step.states[1])
    assert step.frames.tolist() == [2, 2]


def test_a_batch_can_be_evaluated_and_put_back() -> None:
    batch = EnvironmentBatch([environment() for _ in range(3)], seed=4)
    batch.reset()
    state = batch.random_state()

    def policy(states: np.ndarray) -> np.ndarray:
        return np.stack([homing(each) for each in states])

    first = evaluate(policy, batch)
    assert (first.success, first.true_success_25) == (1.0, 1.0)
    batch.set_random_state(state)
    again = batch.reset()
    batch.set_random_state(state)
    assert np.array_equal(batch.reset(), again)


def test_stands_differ_in_all_that_the_environment_promises() -> None:
    stands = [draw_microscope(seed).microscope for seed in range(40)]
    assert {stand.sample for stand in stands} == {"tinball", "grid", "assorted"}
    assert {stand.magnification for stand in stands} == set(MAGNIFICATIONS)
    apertures = np.array([stand.optics.aperture_radius_um for stand in stands])
    assert (apertures.min(), apertures.max()) > (10.0, 40.0)
    assert apertures.max() < 50.0
    assert apertures.min() < 22.0
    assert np.std(apertures) > 5.0
    electrons = np.array([stand.detector.electrons for stand in stands])
    assert 60.0 <= electrons.min() < 90.0
    assert 650.0 < electrons.max() <= 1000.0
    for name, most in (("backlash_u", 0.25), ("focus_drift_u", 0.04)):
        sizes = np.array([getattr(stand.imperfections, name) for stand in stands])
        assert 0.25 <= (sizes == 0.0).mean() <= 0.75
        assert 0.7 * most < sizes.max() <= most
    assert np.ptp([stand.focus_wd_mm for stand in stands]) > 4.0
    assert np.ptp([stand.detector.brightness_optimum for stand in stands]) > 20.0


def test_a_stand_is_its_seeds() -> None:
    def walk(seed: int) -> list[Shot]:
        stand = draw_microscope(seed)
        shots = [stand.scan()]
        for wd_mm in (9.0, 11.0, 10.0):
            stand.apply({Axis.WD: wd_mm})
            shots.append(stand.scan())
        return shots

    first, again, other = walk(6), walk(6), walk(7)
    for one, two in zip(first, again, strict=True):
        assert np.array_equal(one.image, two.image)
        assert (one.parameters, one.quality, one.wd_error_mm) == (two.parameters, two.quality, two.wd_error_mm)
    assert not np.array_equal(first[0].image, other[0].image)


def noisy(score_noise: float) -> SemEnvironment:
    return SemEnvironment(lambda _: FakeMicroscope(3, start_u=5.0), read_score, RULES, score_noise)


def test_the_scores_noise_differs_from_episode_to_episode_and_is_the_seeds() -> None:
    env = noisy(0.3)

    def episode(seed: int | None) -> tuple[float, list[float]]:
        state, info = env.reset(seed=seed)
        scores = [10.0 * float(state[-10])]
        scores += [10.0 * float(env.step(down(0.0))[0][-10]) for _ in range(8)]
        return info["score_sigma"], scores

    first, second, again = episode(5), episode(None), episode(5)
    assert first == again
    assert first[0] != second[0]
    sigmas = [env.reset()[1]["score_sigma"] for _ in range(60)]
    assert 0.0 <= min(sigmas) < 0.05
    assert 0.25 < max(sigmas) <= 0.3
    quiet, _ = noisy(0.0).reset(seed=5)
    true_score = 10.0 * float(quiet[-10])
    errors = np.array([(score - true_score) / first[0] for score in first[1]])
    assert 0.3 < np.sqrt((errors**2).mean()) < 2.0
    assert len(set(first[1])) == len(first[1])


def test_noise_leaves_scores_on_their_scale_and_nothing_seen_at_zero() -> None:
    def top(image: np.ndarray, magnification: float) -> float:
        return 10.0

    def bottom(image: np.ndarray, magnification: float) -> float:
        return 0.0

    accepts_none = replace(RULES, accept_score=10.0)
    for score, scores in ((top, (9.0, 10.0)), (bottom, (0.0, 0.0))):
        env = SemEnvironment(lambda _: FakeMicroscope(3, start_u=5.0), score, accepts_none, 0.2)
        env.reset(seed=2)
        seen = [10.0 * float(env.step(down(0.0))[0][-10]) for _ in range(8)]
        assert scores[0] <= min(seen) <= max(seen) <= scores[1]
    with pytest.raises(TrainingError, match="score_noise"):
        noisy(-1.0)


def test_check_env_with_noise() -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*symmetric and normalized.*")
        warnings.filterwarnings("ignore", message=".*not within the observation space limits.*")
        check_env(noisy(0.3), skip_render_check=True)


def test_gymnasiums_vectorised_wrapper_takes_it() -> None:
    together = SyncVectorEnv([environment, environment])
    states, _ = together.reset(seed=[4, 5])
    step = together.step(np.stack([homing(states[0]), down(0.0)]))
    alone = [environment(), environment()]
    for place, (env, seed) in enumerate(zip(alone, (4, 5), strict=True)):
        assert np.array_equal(states[place], env.reset(seed=seed)[0])
    first = alone[0].step(homing(states[0]))
    assert np.array_equal(step[0][0], first[0])
    assert step[1].tolist()[0] == pytest.approx(first[1])
    assert step[2].tolist() == [True, False]
