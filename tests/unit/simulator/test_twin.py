"""Feature-level twin compared with the functions of the domain and with rendered frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from semd.decision.rules import RunRules
from semd.decision.run import run_state, run_window
from semd.domain.axes import AXES, Axis, Parameters
from semd.domain.expert_scale import focus_quality, lenient_blur_px
from semd.domain.exposure import Exposure, ExposureRange, measure_exposure
from semd.domain.features import Features
from semd.domain.limits import Optics
from semd.domain.observation import Measurement, Observation
from semd.domain.reward import PAPER_WEIGHTS, reward
from semd.simulator.twin import Twin
from semd.simulator.twin_frames import exposure_defect, take_frames
from semd.simulator.twin_scene import SceneRanges, draw_scenes
from semd.training.control.actor_evaluation import evaluate

RULES = RunRules(n_frames=3)
UNIT_MM = Optics().focus_unit_mm(1000.0)
START_MM = 10.0


def observation(twin: Twin, row: int, knobs: np.ndarray) -> Observation:
    """Build the observation that the daemon would read from one microscope of the twin."""
    frames = twin.frames
    features = Features(
        avg=(frames.avg[row] + 1.0) * 127.5,
        grd=frames.grd[row] ** 2 * 255.0 * 640 * 480,
        var=(frames.var[row] * 127.5) ** 2,
        pixels=640 * 480,
    )
    exposure = Exposure(*(getattr(frames, name)[row] for name in ("black", "white", "level", "contrast")))
    parameters = Parameters(1000.0, START_MM + knobs[row, 0] * UNIT_MM, knobs[row, 1], knobs[row, 2])
    return Observation("f", parameters, Measurement(frames.score[row], features, exposure))


@pytest.mark.parametrize("axes", [AXES, (Axis.WD,)])
def test_states_and_rewards_equal_the_domains(axes: tuple[Axis, ...]) -> None:
    rules = replace(RULES, axes=axes)
    twin = Twin(6, rules, 50, 1, SceneRanges(wd_only_share=0.0 if axes == AXES else 1.0))
    rng = np.random.default_rng(2)
    states = twin.reset()
    history = [[observation(twin, row, twin.knobs)] for row in range(6)]
    for _ in range(7):
        for row, frames in enumerate(history):
            expected = run_state(tuple(frames), run_window(frames[0].parameters, rules), rules)
            assert states[row] == pytest.approx(expected, abs=1e-5)
        step = twin.step(rng.uniform(-0.4, 0.4, (6, 3)).astype(np.float32))
        ended = step.terminated | step.truncated
        for row in np.flatnonzero(~ended):
            history[row].append(observation(twin, row, twin.knobs))
            measurement = history[row][-1].measurement
            assert measurement is not None
            assert step.rewards[row] == pytest.approx(reward(measurement, rules.weights, rules.exposure))
        for row in np.flatnonzero(ended):
            history[row] = [observation(twin, row, twin.knobs)]
        states = step.states


def test_the_papers_reward_has_no_exposure_in_it() -> None:
    twin = Twin(4, replace(RULES, weights=PAPER_WEIGHTS), 50, 1)
    twin.reset()
    step = twin.step(np.zeros((4, 3), np.float32))
    frames = twin.frames
    assert step.rewards == pytest.approx(frames.score + frames.grd + frames.var)


def test_defects_equal_the_domains() -> None:
    rng = np.random.default_rng(5)
    good = ExposureRange()
    black, white = rng.uniform(0, 0.5, 200), rng.uniform(0, 0.5, 200)
    level, contrast = rng.uniform(0, 255, 200), rng.uniform(0, 255, 200)
    expected = [good.defect(Exposure(*row)) for row in zip(black, white, level, contrast, strict=True)]
    assert exposure_defect(black, white, level, contrast, good) == pytest.approx(np.array(expected))


def test_percentiles_are_those_of_the_domain() -> None:
    scenes = draw_scenes(50, SceneRanges(), np.random.default_rng(6))
    frames = take_frames(
        scenes,
        scenes.focus_u,
        scenes.brightness_at,
        scenes.contrast_at,
        ExposureRange(),
        np.random.default_rng(7),
    )
    gain = scenes.gain_grey
    blur = scenes.least_blur
    kept = scenes.shrink_floor + (1 - scenes.shrink_floor) / (1 + (blur / scenes.shrink_at) ** scenes.shrink_power)
    for row in range(50):
        mean = scenes.emission[row].mean()
        emission = mean + (scenes.emission[row] - mean) * kept[row]
        sigma = np.sqrt(
            gain[row] ** 2 * np.maximum(emission, 0.005) / scenes.electrons[row] + scenes.readout_grey[row] ** 2
        )
        ideal = gain[row] * (emission - scenes.mid[row]) + 127.5
        grey = np.clip(np.rint(ideal + sigma * scenes.noise_shape[row]), 0, 255).astype(np.uint8)
        exposure = measure_exposure(np.bincount(grey, minlength=256).astype(np.int64))
        assert frames.contrast[row] == exposure.contrast
        assert frames.level[row] == pytest.approx(exposure.level)
        assert frames.black[row] == pytest.approx(exposure.black)
        assert frames.avg[row] == pytest.approx(exposure.level / 127.5 - 1)


def test_quality_is_the_truths() -> None:
    scenes = draw_scenes(40, SceneRanges(), np.random.default_rng(8))
    lens_u = np.linspace(-30, 30, 40)
    frames = take_frames(
        scenes, lens_u, scenes.brightness_at, scenes.contrast_at, ExposureRange(), np.random.default_rng(7)
    )
    blur = np.hypot(scenes.least_blur, scenes.blur_per_u * (lens_u - scenes.focus_u))
    # b0 = 2 sqrt(M / 500) tells the magnification of each scene.
    magnifications = [125.0 * tolerated_px**2 for tolerated_px in scenes.tolerated_px]
    assert len({round(each) for each in magnifications}) == 5
    expected = [focus_quality(b * lenient_blur_px(m), m) for b, m in zip(blur, magnifications, strict=True)]
    assert frames.quality == pytest.approx(np.array(expected))


def test_black_and_white_frames_score_nothing_and_clip() -> None:
    scenes = draw_scenes(64, SceneRanges(), np.random.default_rng(9))
    for brightness, clipped in ((-300.0, "black"), (400.0, "white")):
        frames = take_frames(
            scenes,
            scenes.focus_u,
            np.full(64, brightness),
            scenes.contrast_at,
            ExposureRange(),
            np.random.default_rng(1),
        )
        assert frames.score.max() == 0.0
        assert getattr(frames, clipped).min() == 1.0
        assert frames.grd.max() == 0.0
        assert not frames.exposure_ok.any()


def test_in_focus_and_well_set_nearly_all_pass() -> None:
    twin = Twin(2000, RULES, 50, 3, SceneRanges(wd_only_share=0.0))
    twin.reset()
    twin.knobs[:, 0] = twin.scenes.focus_u
    twin.knobs[:, 1], twin.knobs[:, 2] = twin.scenes.brightness_at, twin.scenes.contrast_at
    step = twin.step(np.zeros((2000, 3), np.float32))
    assert step.terminated.mean() > 0.97
    assert step.truly_good.mean() > 0.97


def test_starts_fill_the_window() -> None:
    twin = Twin(3000, RULES, 50, 3)
    twin.reset()
    distance = np.abs(twin.scenes.focus_u)
    assert distance.min() < 0.2
    assert 29.8 < distance.max() <= 30.0
    controlled = twin.scenes.wd_only == 0.0
    assert np.ptp(twin.knobs[controlled, 1:]) > 99.0
    assert (twin.scenes.low_u <= np.minimum(twin.scenes.focus_u, 0)).all()
    assert (twin.scenes.high_u >= np.maximum(twin.scenes.focus_u, 0)).all()


def test_knobs_stay_within_limits_and_steps_within_their_bound() -> None:
    twin = Twin(200, RULES, 60, 3)
    twin.reset()
    before = twin.knobs.copy()
    step = twin.step(np.full((200, 3), 50.0, np.float32))
    moved = (twin.knobs - before)[~(step.terminated | step.truncated)]
    assert moved[:, 0].max() <= 0.4 * 30 + 0.01
    assert moved[:, 1:].max() <= 0.4 * 50 + 0.01
    for _ in range(20):
        twin.step(np.full((200, 3), 50.0, np.float32))
    assert twin.knobs[:, 1:].max() <= 100.0
    assert (twin.knobs[:, 0] <= twin.scenes.high_u + 0.01).all()


def test_the_time_limit_truncates_and_starts_anew() -> None:
    twin = Twin(5, RULES, 2, 3)
    twin.reset()
    rest = np.zeros((5, 3), np.float32)
    assert not twin.step(rest).truncated.any()
    step = twin.step(rest)
    assert step.truncated.all()
    assert step.frames.tolist() == [3] * 5
    first = step.states.reshape(5, 3, 10)
    assert np.array_equal(first[:, 0], first[:, 2])  # a new episode's only frame, in every place
    assert not np.array_equal(step.next_states, step.states)


def test_a_seed_gives_the_same_episodes_and_the_random_state_goes_on_from_there() -> None:
    first, second = Twin(4, RULES, 50, 3), Twin(4, RULES, 50, 3)
    assert np.array_equal(first.reset(), second.reset())
    state = first.random_state()
    onward = first.reset()
    second.set_random_state(state)
    assert np.array_equal(second.reset(), onward)


def test_a_policy_that_knows_the_scene_passes_and_one_that_rests_does_not() -> None:
    def resting(states: np.ndarray) -> np.ndarray:
        return np.zeros((len(states), 3), np.float32)

    rest = evaluate(resting, Twin(300, RULES, 9, 4))
    assert rest.success_25 < 0.05
    twin = Twin(300, RULES, 20, 5)
    half = np.array([30.0, 50.0, 50.0])

    def informed(_: np.ndarray) -> np.ndarray:
        goal = np.column_stack((twin.scenes.focus_u, twin.scenes.brightness_at, twin.scenes.contrast_at))
        return ((goal - twin.knobs) / half).astype(np.float32)

    figures = evaluate(informed, twin)
    assert figures.true_success_25 > 0.9
    assert figures.median_frames <= 4.0
