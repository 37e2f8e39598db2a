"""The training loop: seeds, curve, checkpoints, resumption. On a toy whose best policy is known."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from harness.toy_control import CONFIG, QUIET, Toy, train

from semd.domain.state import Actions, States
from semd.errors import TrainingError
from semd.training.control.actor_evaluation import ControlFigures, evaluate
from semd.training.control.control_training import BEST, CURVE, LAST, ControlTrainingResult, train_control


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ControlTrainingResult]:
    run_dir = tmp_path_factory.mktemp("run")
    return run_dir, train(run_dir)


def test_a_training_leaves_curve_and_weights(trained: tuple[Path, ControlTrainingResult]) -> None:
    run_dir, result = trained
    assert (result.frames, result.updates) == (320, 65)
    assert result.best_path == run_dir / BEST
    with (run_dir / CURVE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["updates"]) for row in rows] == [32, 64, 65]
    assert float(rows[-1]["success_25"]) == pytest.approx(result.last.success_25, abs=1e-4)


def test_two_trainings_with_one_seed_are_identical(trained: tuple[Path, ControlTrainingResult], tmp_path: Path) -> None:
    run_dir, _ = trained
    train(tmp_path / "again")
    for name in (LAST, BEST, CURVE):
        assert (tmp_path / "again" / name).read_bytes() == (run_dir / name).read_bytes()
    train(tmp_path / "other", seed=21)
    assert (tmp_path / "other" / LAST).read_bytes() != (run_dir / LAST).read_bytes()


def test_a_training_that_broke_off_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    train(run_dir, max_frames=192)
    shutil.copytree(run_dir, tmp_path / "copy")
    # A kill while the next checkpoint is written leaves a half one, which does not count.
    (run_dir / "checkpoint.new").mkdir()
    (run_dir / "checkpoint.new" / "learner.safetensors").write_bytes(b"half")
    result = train(run_dir, resume=True)
    assert (result.frames, result.updates) == (320, 65)
    train(tmp_path / "copy", resume=True)
    assert (run_dir / LAST).read_bytes() == (tmp_path / "copy" / LAST).read_bytes()
    with (run_dir / CURVE).open(newline="") as file:
        updates = [int(row["updates"]) for row in csv.DictReader(file)]
    assert updates == sorted(updates)
    assert updates[-1] == 65


def test_a_kill_between_the_two_renames_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    train(tmp_path, max_frames=192)
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    assert train(tmp_path, resume=True).updates == 65


def test_ctrl_c_leaves_a_checkpoint(tmp_path: Path) -> None:
    calls = []

    def evaluation(policy) -> ControlFigures:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(policy, Toy(8, 2))

    with pytest.raises(KeyboardInterrupt):
        train_control(CONFIG, Toy(4, 1), evaluation, tmp_path, console=QUIET)
    assert train(tmp_path, resume=True).updates == 65


def test_resuming_needs_the_same_settings_and_a_whole_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no checkpoint"):
        train(tmp_path, resume=True)
    train(tmp_path, max_frames=128)
    with pytest.raises(TrainingError, match="gamma"):
        train(tmp_path, resume=True, gamma=0.9)
    (tmp_path / "checkpoint" / "learner.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises(TrainingError, match="not a checkpoint"):
        train(tmp_path, resume=True)


def test_the_number_of_microscopes_must_agree(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="n_envs"):
        train_control(CONFIG, Toy(3, 1), lambda policy: evaluate(policy, Toy(8, 2)), tmp_path, console=QUIET)


def test_episodes_end_a_training(tmp_path: Path) -> None:
    result = train(tmp_path, episodes=10, max_frames=10_000)
    assert 10 <= result.episodes <= 13


def towards_zero(states: States) -> Actions:
    actions = np.zeros((len(states), 3), np.float32)
    actions[:, 0] = np.clip(-states[:, 0], -0.4, 0.4)
    return actions


def test_evaluation_counts_one_episode_each() -> None:
    figures = evaluate(towards_zero, Toy(4000, 7))
    assert (figures.episodes, figures.success, figures.success_25) == (4000, 1.0, 1.0)
    # |x| <= 0.5 takes one step, else two up to 0.9, else three; a frame more than steps
    assert (figures.median_frames, figures.p90_frames) == (2.0, 3.0)
    nowhere = evaluate(lambda states: np.zeros((len(states), 3), np.float32), Toy(4000, 7))
    assert nowhere.success == pytest.approx(0.1, abs=0.02)
    assert nowhere.true_success_25 == pytest.approx(0.05, abs=0.02)
