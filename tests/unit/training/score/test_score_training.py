"""Training: what it leaves, the heads alone, several processes, and going on after a kill."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from semd.datasets.dataset import COLUMNS, read_dataset
from semd.errors import DatasetError, TrainingError
from semd.scoring.network import Architecture
from semd.scoring.stored import network_from_bytes
from semd.training.score import feature_cache as lesson
from semd.training.score import score_training as training
from semd.training.score.process_group import ProcessGroup
from semd.training.score.score_settings import ScoreTrainingConfig, Stage
from semd.training.score.score_training import split_validation, train_scorer
from semd.training.score.validation import predict, report

QUICK = ScoreTrainingConfig(
    architecture=Architecture(height_px=240, width_px=320, replicas=2),
    stages=(Stage(32, 32, 4, 3, tries=2),),
    threads=1,
    bf16=False,
    seed=3,
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames: stripes whose width is the label."""
    directory = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    images = np.empty((12, 240, 320), np.uint8)
    with (directory / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for k in range(12):
            label = k % 6 + 2
            stripes = 128 + 80 * np.sin(np.arange(320) / label)[None, :] + rng.normal(0, 5, (240, 320))
            images[k] = np.clip(stripes, 0, 255).astype(np.uint8)
            row = dict.fromkeys(COLUMNS, 1) | {
                "index": k,
                "field_id": k,
                "label": label,
                "score": label + 0.25,
            }
            row |= {
                "split": "test" if k >= 9 else "train",
                "image_split": "test" if k == 4 else "train",
                "sample": "grid",
                "magnification": 500 * (1 + k % 2),
            }
            writer.writerow(row | {"variant": "normal"})
    np.save(directory / "images.npy", images)
    return directory


def test_a_training_leaves_weights_curve_and_report(dataset: Path, tmp_path: Path) -> None:
    result = train_scorer(QUICK, [dataset], tmp_path, progress=False)
    assert result.finished
    assert result.epochs == 3
    assert result.report is not None
    assert result.report.frames == 3
    assert result.weights is not None
    frames = read_dataset(dataset)
    rows = frames.rows("test")
    again = report(frames, rows, predict(network_from_bytes(result.weights.read_bytes()), frames, rows))
    assert again.rmse == pytest.approx(result.report.rmse, abs=0.01)
    with (tmp_path / "curve.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_an_interrupted_training_ends_where_an_undisturbed_one_does(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_scorer(QUICK, [dataset], tmp_path / "whole", progress=False)
    real = training._run_epoch

    def interrupted(config: ScoreTrainingConfig, epoch: int, *rest: object) -> float:
        if epoch == 1:
            raise KeyboardInterrupt
        return real(config, epoch, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "_run_epoch", interrupted)
    first = train_scorer(QUICK, [dataset], tmp_path / "parts", progress=False)
    assert not first.finished
    assert first.epochs == 1
    monkeypatch.undo()
    second = train_scorer(QUICK, [dataset], tmp_path / "parts", progress=False)
    assert second.finished
    assert whole.weights is not None
    assert second.weights is not None
    assert second.weights.read_bytes() == whole.weights.read_bytes()


def test_what_is_watched_is_whole_fields_that_are_not_trained_on(dataset: Path) -> None:
    frames = read_dataset(dataset)
    trained, watched = split_validation(frames, 1, seed=0)
    # Nine fields on the training side, one of them in the test by image, one held out.
    assert (len(trained), len(watched)) == (7, 1)
    assert not set(frames.field_id[trained]) & set(frames.field_id[watched])
    assert set(trained) | set(watched) == set(frames.rows("train"))
    everything, same = split_validation(frames, 0, seed=0)
    assert np.array_equal(everything, same)


def test_a_training_without_gain_stops_early_and_keeps_its_best(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter([3.0, 2.0, 2.5, 2.6, 9.9])
    real = training.report

    def scripted(*arguments: object) -> object:
        figures = real(*arguments)  # type: ignore[arg-type]
        return replace(figures, rmse_score=next(errors, figures.rmse_score))

    monkeypatch.setattr(training, "report", scripted)
    long = replace(QUICK, stages=(Stage(32, 32, 4, 9),), patience=2)
    result = train_scorer(long, [dataset], tmp_path, progress=False)
    assert result.finished
    # Passes 3 and 4 brought nothing.
    assert result.epochs == 4


def test_a_training_goes_on_from_given_weights(dataset: Path, tmp_path: Path) -> None:
    first = train_scorer(QUICK, [dataset], tmp_path / "first", progress=False)
    assert first.weights is not None
    # A rate of next to nothing: what comes out is what went in.
    still = replace(QUICK, stages=(Stage(32, 32, 4, 1),), learning_rate=1e-12)
    train_scorer(still, [dataset], tmp_path / "second", start=first.weights, progress=False)
    before, after = (
        network_from_bytes(path.read_bytes()) for path in (first.weights, tmp_path / "second" / "best.safetensors")
    )
    assert torch.equal(before.backbone.conv1.weight, after.backbone.conv1.weight)
    other = replace(still, architecture=Architecture(replicas=1))
    with pytest.raises(TrainingError, match="another form"):
        train_scorer(other, [dataset], tmp_path / "third", start=first.weights, progress=False)
    with pytest.raises(TrainingError, match="another configuration"):
        train_scorer(still, [dataset], tmp_path / "second", progress=False)


HEADS = replace(QUICK, architecture=replace(QUICK.architecture, spectrum=True), stages=())


@pytest.fixture(scope="module")
def weights(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network that sees pixels alone."""
    result = train_scorer(QUICK, [dataset], tmp_path_factory.mktemp("weights"), progress=False)
    assert result.weights is not None
    return result.weights


def test_the_heads_and_the_reader_learn_while_the_convolutions_stay(
    dataset: Path, weights: Path, tmp_path: Path
) -> None:
    result = train_scorer(HEADS, [dataset], tmp_path, start=weights, progress=False)
    assert result.finished
    assert result.epochs == 0
    assert result.weights is not None
    before, after = (network_from_bytes(path.read_bytes()) for path in (weights, result.weights))
    assert after.spectrum is not None
    # What was seen has served its purpose.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.safetensors", "report.json", "scorer.safetensors"]
    for name, value in before.backbone.state_dict().items():
        assert torch.equal(value, after.backbone.state_dict()[name])
    # It knows on which scale these frames' spectra lie: not where it began.
    assert float(after.spectrum.centre.abs().max()) > 1.0


def test_heads_alone_need_weights_that_fit(dataset: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="weights to start from"):
        train_scorer(HEADS, [dataset], tmp_path / "random", progress=False)
    result = train_scorer(HEADS, [dataset], tmp_path / "heads", start=weights, progress=False)
    with pytest.raises(TrainingError, match="reads the spectrum"):
        train_scorer(replace(QUICK), [dataset], tmp_path / "back", start=result.weights, progress=False)


def test_what_was_seen_before_a_kill_is_not_computed_again(
    dataset: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lesson, "_PART_FRAMES", 2)
    whole = train_scorer(HEADS, [dataset], tmp_path / "whole", start=weights, progress=False)
    real, calls = lesson.forward_rows, 0

    def killed(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(lesson, "forward_rows", killed)
    first = train_scorer(HEADS, [dataset], tmp_path / "parts", start=weights, progress=False)
    assert not first.finished
    assert len(list((tmp_path / "parts" / "seen").glob("*.npy"))) == 2
    second = train_scorer(HEADS, [dataset], tmp_path / "parts", start=weights, progress=False)
    # Seven frames trained on in four parts and one to watch, of which two parts were there.
    assert calls == 3 + 3
    assert second.weights is not None
    assert whole.weights is not None
    assert second.weights.read_bytes() == whole.weights.read_bytes()


def test_a_stop_while_the_test_is_judged_loses_nothing(
    dataset: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "predict", stopped)
    first = train_scorer(HEADS, [dataset], tmp_path, start=weights, progress=False)
    assert not first.finished
    monkeypatch.undo()
    monkeypatch.setattr(lesson, "forward_rows", stopped)
    assert train_scorer(HEADS, [dataset], tmp_path, start=weights, progress=False).finished


def test_several_datasets_are_trained_on_together(dataset: Path, weights: Path, tmp_path: Path) -> None:
    result = train_scorer(HEADS, [dataset, dataset], tmp_path, start=weights, progress=False)
    assert result.report is not None
    assert result.report.frames == 2 * 3


def test_a_validation_dataset_replaces_held_out_fields(
    dataset: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = training.finish, []

    def spied(
        network: object, frames: object, trained: object, unseen: object, *rest: object, **more: object
    ) -> object:
        seen.append((trained, unseen))
        return real(network, frames, trained, unseen, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "finish", spied)
    result = train_scorer(HEADS, [dataset], tmp_path, start=weights, validation_dir=dataset, progress=False)
    [(trained, unseen)] = seen
    # The twelve frames once more, behind those of which one and three are for the tests.
    assert np.array_equal(trained, [0, 1, 2, 3, 5, 6, 7, 8])
    assert np.array_equal(unseen, np.arange(12, 24))
    assert result.report is not None
    assert result.report.frames == 3


@pytest.mark.slow
def test_torchrun_trains_what_two_processes_train(dataset: Path, tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from semd.scoring.network import Architecture\n"
        "from semd.training.score.score_training import train_scorer\n"
        "from semd.training.score.score_settings import Stage, ScoreTrainingConfig\n"
        "form = Architecture(height_px=240, width_px=320, replicas=2)\n"
        "if __name__ == '__main__':\n"
        "    stages = (Stage(32, 32, 4, 2),)\n"
        "    config = ScoreTrainingConfig(architecture=form, stages=stages, threads=1, bf16=False, seed=3)\n"
        "    train_scorer(config, [Path(sys.argv[1])], Path(sys.argv[2]), progress=False, processes=int(sys.argv[3]))\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        str(_free_port()),
    ]
    for launcher, run, processes in ((launch, "launched", "1"), ([sys.executable], "spawned", "2")):
        arguments = [str(program), str(dataset), str(tmp_path / run), processes]
        subprocess.run([*launcher, *arguments], check=True, timeout=200, env=environment, capture_output=True)
    launched, spawned = ((tmp_path / run / "curve.csv").read_text() for run in ("launched", "spawned"))
    assert launched == spawned
    with (tmp_path / "launched" / "curve.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_a_team_trains_and_leaves_what_one_process_leaves(dataset: Path, tmp_path: Path) -> None:
    one_pass = replace(QUICK, stages=(Stage(32, 32, 4, 1),))
    result = train_scorer(one_pass, [dataset], tmp_path, progress=False, processes=2)
    assert result.finished
    assert result.report is not None
    assert result.report.frames == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.safetensors",
        "checkpoint.safetensors",
        "curve.csv",
        "report.json",
        "scorer.safetensors",
    ]
    with pytest.raises(TrainingError, match="processes"):
        train_scorer(QUICK, [dataset], tmp_path, progress=False, processes=0)


def test_shares_are_disjoint_and_of_one_length() -> None:
    rows = np.arange(11)
    shares = [ProcessGroup(rank, 3).share(rows) for rank in range(3)]
    assert [len(share) for share in shares] == [3, 3, 3]
    assert set(np.concatenate(shares)) == set(range(9))
    assert ProcessGroup(0, 3).is_main
    assert not ProcessGroup(1, 3).is_main


def test_another_configuration_does_not_take_over_a_run(dataset: Path, tmp_path: Path) -> None:
    one_pass = replace(QUICK, stages=(Stage(32, 32, 4, 1),))
    train_scorer(one_pass, [dataset], tmp_path, progress=False)
    with pytest.raises(TrainingError, match="another configuration"):
        train_scorer(replace(one_pass, learning_rate=0.5), [dataset], tmp_path, progress=False)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="no checkpoint"):
        train_scorer(one_pass, [dataset], tmp_path, progress=False)


def test_a_run_that_diverges_stops(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "rmse_loss", lambda scores, _target, _weight: scores.sum() * float("nan"))
    with pytest.raises(TrainingError, match="learning rate"):
        train_scorer(QUICK, [dataset], tmp_path, progress=False)


def test_without_a_dataset_there_is_no_training(tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        train_scorer(QUICK, [tmp_path / "nowhere"], tmp_path / "run", progress=False)


def test_stored_statistics_stay_as_they_are_while_their_gains_learn(dataset: Path, tmp_path: Path) -> None:
    first = train_scorer(QUICK, [dataset], tmp_path / "first", progress=False).weights
    assert first is not None
    # A rate at which even the first pass, should it be the best, has moved them by more than half precision hides.
    further = replace(QUICK, batch_statistics=False, ema_decay=0.0, learning_rate=1e-2)
    second = train_scorer(further, [dataset], tmp_path / "second", start=first, progress=False).weights
    assert second is not None
    before, after = (dict(network_from_bytes(p.read_bytes()).backbone.state_dict()) for p in (first, second))
    stored = [name for name in before if name.endswith(("running_mean", "running_var"))]
    assert len(stored) == 40
    assert all(torch.equal(before[name], after[name]) for name in stored)
    gains = [name for name in before if "bn" in name and name.endswith(".weight")]
    assert any(not torch.equal(before[name], after[name]) for name in gains)
