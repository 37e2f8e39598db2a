"""Sweeps and rollouts on Ray, with a local cluster of two workers; their plans and tables without."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from rich.console import Console
from typer.testing import CliRunner

from semd.cli import app
from semd.decision.rules import RunRules
from semd.errors import ConfigError, TrainingError
from semd.simulator.simulated_microscope import draw_microscope
from semd.simulator.vector_environment import VectorStep
from semd.training.control import control_settings as settings
from semd.training.control import hyperparameter_sweep as sweep
from semd.training.control.control_settings import DEFAULT
from semd.training.control.control_training import BEST, train_control
from semd.training.control.environment import SemEnvironment
from semd.training.control.environment_batch import EnvironmentBatch
from semd.training.control.hyperparameter_sweep import RESULT, TABLE, SweepResult, TrialResult, train_sweep, train_trial
from semd.training.control.ray_cluster import cluster
from semd.training.control.rollouts import RemoteEnvironment, image_environments
from semd.training.control.sweep_plan import Trial, plan_sweep
from semd.training.control.twin_environment import make_evaluation

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="extra `ray` is not installed")
QUIET = Console(quiet=True)
TINY = replace(
    DEFAULT,
    n_envs=4,
    max_frames=64,
    warmup_frames=16,
    batch_size=8,
    evaluate_episodes=8,
    time_limit=4,
    buffer_size=200,
)


def brightness_score(image: np.ndarray, magnification: float) -> float:
    return 8.0 * float(image.mean()) / 255.0


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    with cluster(2) as connected:
        # Workers know semd, not this file.
        connected.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield connected
        connected.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_every_combination_is_planned_once() -> None:
    trials = plan_sweep(DEFAULT, "0, 7", ["lr_actor=1e-4,3e-4", "batch_size=64"])
    assert [trial.name for trial in trials] == [
        "lr_actor=0.0001_batch_size=64_seed=0",
        "lr_actor=0.0001_batch_size=64_seed=7",
        "lr_actor=0.0003_batch_size=64_seed=0",
        "lr_actor=0.0003_batch_size=64_seed=7",
    ]
    last = trials[3]
    assert last.config == replace(DEFAULT, lr_actor=3e-4, batch_size=64, seed=7)
    assert last.swept == {"lr_actor": 3e-4, "batch_size": 64, "seed": 7}
    assert [trial.name for trial in plan_sweep(DEFAULT, "3", [])] == ["seed=3"]


@pytest.mark.parametrize(
    ("seeds", "setting", "says"),
    [
        ("0", "lr_actor", "NAME=VALUE"),
        ("0", "lr=1", "no setting 'lr'"),
        ("0", "weights=1", "no setting 'weights'"),
        ("0", "batch_size=8,x", "valid integer"),
        ("0", "batch_size=1.5", "integer"),
        ("0", "gamma=0.5,0.50", "twice"),
        ("0", "seed=1", "--seeds"),
        ("0", "max_frames=1", "--frames"),
        ("0,0", "gamma=0.5", "twice"),
        ("", "gamma=0.5", "--seeds"),
    ],
)
def test_what_cannot_be_swept_is_refused(seeds: str, setting: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        plan_sweep(DEFAULT, seeds, [setting])
    with pytest.raises(ConfigError, match="given twice"):
        plan_sweep(DEFAULT, "0", ["gamma=0.5", "gamma=0.6"])


def figures(success: float, true_success: float, median: float | None) -> dict[str, Any]:
    return {
        "success_25": success,
        "true_success_25": true_success,
        "median_frames": median,
        "p90_frames": median and median + 2.0,
    }


def ended(seed: int, found: dict[str, Any] | None, failure: str = "") -> TrialResult:
    return TrialResult(Trial(f"seed={seed}", {"seed": seed}, TINY), found, failure)


def test_the_table_has_the_best_first_and_failures_last(tmp_path: Path) -> None:
    unsorted = [
        ended(0, None, "SEMD-T01: the loss is not finite"),
        ended(1, figures(0.9, 0.5, 6.0)),
        ended(2, figures(0.9, 0.8, 7.0)),
        ended(3, figures(0.0, 0.0, None)),
        ended(4, figures(0.9, 0.8, 5.0)),
    ]
    found = SweepResult(tuple(sorted(unsorted, key=sweep._sort_key)), 2)
    assert [row["seed"] for row in found.rows()] == [4, 2, 1, 3, 0]
    lines = found.as_text().splitlines()
    assert lines[0].split() == ["seed", "success_25", "true_success_25", "median_frames", "p90_frames"]
    assert lines[1].split() == ["4", "0.9", "0.8", "5", "7"]
    assert lines[4].split() == ["3", "0", "0", "-", "-"]
    assert lines[5].endswith("the loss is not finite")
    assert lines[6] == "5 trainings, 2 of them finished before, 1 failed"
    wide = TrialResult(Trial("w", {"gamma": 0.5, "evaluate_episodes": 8}, TINY), figures(0.9, 0.5, 6.0))
    assert SweepResult((wide,), 0).as_text().splitlines()[0].split()[:2] == ["gamma", "evaluate_episodes"]
    found.save(tmp_path)
    with (tmp_path / TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == ["4", "2", "1", "3", "0"]
    assert (rows[0]["true_success_25"], rows[3]["median_frames"], rows[0]["run"]) == ("0.8", "", "seed=4")


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(TrainingError, match=r"pip install 'semd\[ray\]'"):
        train_sweep(plan_sweep(TINY, "0", []), tmp_path, workers=1, console=QUIET)
    with pytest.raises(ConfigError, match="workers"), cluster(0):
        pass


class StubbornRay:
    """Takes some tries to start, as on a busy machine."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.asked: list[dict[str, Any]] = []

    def is_initialized(self) -> bool:
        return False

    def shutdown(self) -> None:
        pass

    def init(self, **words: Any) -> None:
        self.asked.append(words)
        if len(self.asked) <= self.failures:
            raise Exception("timed out during startup")  # noqa: TRY002 (as Ray does)


def test_a_slow_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = StubbornRay(2)
    monkeypatch.setitem(sys.modules, "ray", slow)
    with cluster(3) as connected:
        assert connected is slow
    assert [words["num_cpus"] for words in slow.asked] == [3, 3, 3]
    monkeypatch.setitem(sys.modules, "ray", StubbornRay(99))
    with pytest.raises(TrainingError, match="cannot be started"), cluster(3):
        pass


def test_a_result_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "seed=0").mkdir()
    (tmp_path / "seed=0" / RESULT).write_text("{")
    with pytest.raises(TrainingError, match="not a sweep's result"):
        train_sweep(plan_sweep(TINY, "0", []), tmp_path, workers=1, console=QUIET)


def test_a_trial_that_broke_off_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    train_trial(replace(TINY, max_frames=32), tmp_path / "run")
    train_trial(TINY, tmp_path / "run")
    found = json.loads((tmp_path / "run" / RESULT).read_text())
    assert found["frames"] == 64
    rows = (tmp_path / "run" / "curve.csv").read_text().splitlines()
    assert [int(row.split(",")[0]) for row in rows[1:]] == [32, 64]


@needs_ray
def test_the_local_cluster_is_reached_from_this_machine_alone(ray: Any) -> None:
    assert [node["NodeManagerAddress"] for node in ray.nodes()] == ["127.0.0.1"]
    assert ray.cluster_resources()["CPU"] == 2.0
    # A connection that is there already is used and left open.
    with cluster(5) as same:
        assert same is ray
    assert ray.is_initialized()
    listening = {
        connection.laddr.ip
        for process in psutil.Process().children(recursive=True)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


@needs_ray
def test_a_sweep_trains_all_and_skips_what_has_ended(ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.PRESETS, "default", TINY)
    words = ["train", "sweep", "--run", str(tmp_path), "--seeds", "0,1", "--set", "gamma=0.5,0.6", "--json"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0
    found = json.loads(result.stdout.splitlines()[-1])
    assert (found["skipped"], found["failed"]) == (0, 0)
    names = {f"gamma={gamma}_seed={seed}" for gamma in (0.5, 0.6) for seed in (0, 1)}
    assert {row["run"] for row in found["runs"]} == names
    with (tmp_path / TABLE).open(newline="") as file:
        assert {row["run"] for row in csv.DictReader(file)} == names
    merits = [(row["true_success_25"], row["success_25"]) for row in found["runs"]]
    assert merits == sorted(merits, reverse=True)

    # A worker's training is the one that this process would have done.
    trial = plan_sweep(TINY, "1", ["gamma=0.5"])[0]
    train_trial(trial.config, tmp_path / "here")
    assert (tmp_path / trial.name / BEST).read_bytes() == (tmp_path / "here" / BEST).read_bytes()

    when = {name: (tmp_path / name / RESULT).stat().st_mtime_ns for name in names}
    again = CliRunner().invoke(app, [*words, "--set", "rho=0.2"], catch_exceptions=False)
    assert json.loads(again.stdout.splitlines()[-1])["skipped"] == 0  # another sweep, in folders of its own
    more = CliRunner().invoke(app, [*words[:5], "0,1,2", *words[6:]], catch_exceptions=False)
    found = json.loads(more.stdout.splitlines()[-1])
    assert (found["skipped"], len(found["runs"])) == (4, 6)
    assert when == {name: (tmp_path / name / RESULT).stat().st_mtime_ns for name in names}


@needs_ray
def test_one_that_fails_does_not_cost_the_others(ray: Any, tmp_path: Path) -> None:
    trials = plan_sweep(TINY, "0", ["gamma=0.5,0.6"])
    train_trial(replace(trials[0].config, kappa=0.1), tmp_path / trials[0].name)
    found = train_sweep(trials, tmp_path, workers=2, console=QUIET)
    assert [each.trial for each in found.ended] == [trials[1], trials[0]]
    assert found.failed == 1
    assert "kappa" in found.ended[1].failure


@needs_ray
def test_a_lost_worker_does_not_cost_the_others(ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_task", _die_or_train)
    trials = plan_sweep(TINY, "0,1", [])
    found = train_sweep(trials, tmp_path, workers=2, console=QUIET)
    assert [each.trial.swept["seed"] for each in found.ended] == [0, 1]
    assert found.failed == 1
    assert found.ended[1].failure.startswith("the worker ended")


def _die_or_train(config: settings.TrainingConfig, run_dir: str) -> str:
    if config.seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    train_trial(config, Path(run_dir))
    return ""


def cheap_batch(first: int, count: int) -> EnvironmentBatch:
    rules = RunRules(n_frames=2, max_steps=4)
    return EnvironmentBatch(
        [SemEnvironment(draw_microscope, brightness_score, rules) for _ in range(count)], 11 + first
    )


def assert_same(one: VectorStep, other: VectorStep) -> None:
    for each in fields(VectorStep):
        np.testing.assert_array_equal(getattr(one, each.name), getattr(other, each.name), each.name)


@needs_ray
def test_remote_rollouts_are_the_local_ones(ray: Any) -> None:
    remote, local = RemoteEnvironment(ray, cheap_batch, 3, 2), cheap_batch(0, 3)
    assert remote.n_envs == 3
    np.testing.assert_array_equal(remote.reset(), local.reset())
    rng = np.random.default_rng(1)
    ends = 0
    for _ in range(5):
        actions = rng.uniform(-0.3, 0.3, (3, 3)).astype(np.float32)
        one, other = remote.step(actions), local.step(actions)
        assert_same(one, other)
        ends += int((one.terminated | one.truncated).sum())
    assert ends >= 3
    state = remote.random_state()
    assert state == local.random_state()
    onward = remote.reset()
    # A checkpoint fits any number of workers; those no longer referred to give their processors back.
    del remote
    alone = RemoteEnvironment(ray, cheap_batch, 3, 1)
    alone.set_random_state(state)
    np.testing.assert_array_equal(alone.reset(), onward)


@needs_ray
def test_a_lost_worker_ends_a_rollout_in_words(ray: Any) -> None:
    remote = RemoteEnvironment(ray, cheap_batch, 1, 1)
    remote.reset()
    ray.kill(remote._workers[0])
    with pytest.raises(TrainingError, match="a worker was lost"):
        remote.step(np.zeros((1, 3), np.float32))
    with pytest.raises(TrainingError, match="at least one"):
        RemoteEnvironment(ray, cheap_batch, 0, 1)
    with pytest.raises(TrainingError, match="has 2 processors"):
        RemoteEnvironment(ray, cheap_batch, 3, 3)


@needs_ray
def test_training_on_rendered_frames_with_the_real_scorer(ray: Any, tmp_path: Path) -> None:
    config = replace(TINY, n_envs=2, max_frames=24, warmup_frames=8, evaluate_episodes=4)
    remote = RemoteEnvironment(ray, image_environments(config), config.n_envs, 2)
    result = train_control(config, remote, make_evaluation(config), tmp_path, console=QUIET)
    assert (result.frames, result.updates) == (24, 9)
    assert result.episodes >= 4
    state = remote.random_state()
    resumed = replace(config, max_frames=28)
    again = train_control(resumed, remote, make_evaluation(config), tmp_path, resume=True, console=QUIET)
    assert again.frames == 28
    assert remote.random_state() != state
