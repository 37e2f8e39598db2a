"""stable-baselines3 trains on the environment: the interface is Gymnasium's, not only ours."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import pytest

from semd.decision.rules import RunRules
from semd.domain.axes import Axis, Parameters
from semd.domain.limits import Optics
from semd.simulator.microscope_interface import Shot
from semd.training.control.environment import SemEnvironment

WHY = "extra `sb3` is not installed"
stable_baselines3 = pytest.importorskip("stable_baselines3", reason=WHY)
env_checker = pytest.importorskip("stable_baselines3.common.env_checker", reason=WHY)
env_util = pytest.importorskip("stable_baselines3.common.env_util", reason=WHY)

MAGNIFICATION = 1000.0
UNIT_MM = Optics().focus_unit_mm(MAGNIFICATION)
RULES = RunRules(n_frames=2, max_steps=10)


class Cheap:
    """Focus at 10 mm; tells its defocus by the grey of the first pixel."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.pattern = rng.integers(60, 200, (24, 32), dtype=np.uint8)
        self.wd_mm = round(10.0 + UNIT_MM * rng.uniform(3.0, 8.0), 4)
        self.brightness, self.contrast = 50.0, 50.0

    def scan(self) -> Shot:
        image = self.pattern.copy()
        error_mm = self.wd_mm - 10.0
        image[0, 0] = round(25.0 * max(0.0, 10.0 - abs(error_mm) / UNIT_MM))
        return Shot(image, Parameters(MAGNIFICATION, self.wd_mm, self.brightness, self.contrast), 5.0, True, error_mm)

    def apply(self, targets: Mapping[Axis, float]) -> None:
        self.wd_mm = targets[Axis.WD]
        self.brightness, self.contrast = targets[Axis.BRIGHTNESS], targets[Axis.CONTRAST]


def read_score(image: np.ndarray, magnification: float) -> float:
    return float(image[0, 0]) / 25.0


def environment() -> SemEnvironment:
    return SemEnvironment(Cheap, read_score, RULES, 0.2)


def test_its_checker_has_no_complaint() -> None:
    with warnings.catch_warnings():
        # It recommends bounds of 1; ours are (5)'s, which is the point of them.
        warnings.filterwarnings("ignore", message=".*symmetric and normalized.*")
        env_checker.check_env(environment())


def test_ddpg_learns_on_it() -> None:
    env = environment()
    model = stable_baselines3.DDPG(
        "MlpPolicy", env, learning_starts=64, batch_size=16, policy_kwargs={"net_arch": [16]}, seed=3, device="cpu"
    )
    before = {name: value.clone() for name, value in model.policy.actor.state_dict().items()}
    model.learn(300)
    assert model.num_timesteps == 300
    lengths = [episode["l"] for episode in model.ep_info_buffer]
    assert len(lengths) >= 300 // (RULES.max_steps - 1)
    assert max(lengths) <= RULES.max_steps - 1
    assert any(not value.equal(before[name]) for name, value in model.policy.actor.state_dict().items())
    state, _ = env.reset(seed=1)
    action, _ = model.predict(state, deterministic=True)
    assert env.action_space.contains(action)


def test_ppo_trains_on_several_at_once() -> None:
    model = stable_baselines3.PPO(
        "MlpPolicy",
        env_util.make_vec_env(environment, n_envs=2, seed=1),
        n_steps=64,
        batch_size=32,
        n_epochs=1,
        device="cpu",
    )
    model.learn(256)
    assert model.num_timesteps == 256
