"""Training: the loss, the augmentation, the schedule, and going on after a kill."""

from __future__ import annotations

import csv
import math
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from semd.errors import ConfigError, DatasetError, TrainingError
from semd.scoring import training
from semd.scoring.augment import photometric, random_crops
from semd.scoring.dataset import COLUMNS, LabelledFrames, read_dataset
from semd.scoring.evaluation import predict, report
from semd.scoring.losses import expected_error_loss, rmse_loss
from semd.scoring.network import Architecture, Replicas
from semd.scoring.preprocess import standardise
from semd.scoring.stored import network_from_bytes
from semd.scoring.team import Team
from semd.scoring.training import rate_at, split_validation, train_scorer
from semd.scoring.training_config import Stage, TrainingConfig, paper_preset, preset

QUICK = TrainingConfig(
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


def test_the_loss_is_the_root_mean_square_error_of_what_each_replica_drew() -> None:
    target = torch.tensor([4.0, 1.0])
    one = rmse_loss(torch.tensor([[1.0], [5.0]]), target, torch.ones(2, 1))
    assert float(one) == pytest.approx(math.sqrt((9 + 16) / 2))
    # The second replica drew the first frame twice and the second not at all.
    two = rmse_loss(torch.tensor([[1.0, 3.0], [5.0, 9.0]]), target, torch.tensor([[1.0, 2.0], [1.0, 0.0]]))
    assert float(two) == pytest.approx((math.sqrt(12.5) + 1.0) / 2, rel=1e-5)
    exact = torch.tensor([[2.0]], requires_grad=True)
    rmse_loss(exact, torch.tensor([2.0]), torch.ones(1, 1)).backward()
    assert torch.isfinite(exact.grad).all()


def test_the_expected_error_is_learned_without_moving_the_score() -> None:
    scores = torch.tensor([[3.0]], requires_grad=True)
    log_sigma = torch.zeros(1, 1, requires_grad=True)
    expected_error_loss(Replicas(scores, log_sigma), torch.tensor([5.0])).backward()
    assert scores.grad is None
    # d/ds (s + e**2 / 2 exp(-2 s)) at s = 0, e = 2
    assert float(log_sigma.grad) == pytest.approx(1.0 - 4.0)


def test_a_training_leaves_weights_curve_and_report(dataset: Path, tmp_path: Path) -> None:
    result = train_scorer(QUICK, dataset, tmp_path, progress=False)
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
    whole = train_scorer(QUICK, dataset, tmp_path / "whole", progress=False)
    real = training._run_epoch

    def interrupted(config: TrainingConfig, epoch: int, *rest: object) -> float:
        if epoch == 1:
            raise KeyboardInterrupt
        return real(config, epoch, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "_run_epoch", interrupted)
    first = train_scorer(QUICK, dataset, tmp_path / "parts", progress=False)
    assert not first.finished
    assert first.epochs == 1
    monkeypatch.undo()
    second = train_scorer(QUICK, dataset, tmp_path / "parts", progress=False)
    assert second.finished
    assert whole.weights is not None
    assert second.weights is not None
    assert second.weights.read_bytes() == whole.weights.read_bytes()


def test_what_is_watched_is_whole_fields_that_are_not_trained_on(dataset: Path) -> None:
    frames = read_dataset(dataset)
    trained, watched = split_validation(frames, 1, seed=0)
    # Nine fields on the training side, one of them in the test by image, one set aside.
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
    result = train_scorer(long, dataset, tmp_path, progress=False)
    assert result.finished
    # Passes 3 and 4 brought nothing.
    assert result.epochs == 4


def test_a_training_goes_on_from_given_weights(dataset: Path, tmp_path: Path) -> None:
    first = train_scorer(QUICK, dataset, tmp_path / "first", progress=False)
    assert first.weights is not None
    # A rate of next to nothing: what comes out is what went in.
    still = replace(QUICK, stages=(Stage(32, 32, 4, 1),), learning_rate=1e-12)
    train_scorer(still, dataset, tmp_path / "second", start=first.weights, progress=False)
    before, after = (
        network_from_bytes(path.read_bytes()) for path in (first.weights, tmp_path / "second" / "best.safetensors")
    )
    assert torch.equal(before.backbone.conv1.weight, after.backbone.conv1.weight)
    other = replace(still, architecture=Architecture(replicas=1))
    with pytest.raises(TrainingError, match="another form"):
        train_scorer(other, dataset, tmp_path / "third", start=first.weights, progress=False)
    with pytest.raises(TrainingError, match="another configuration"):
        train_scorer(still, dataset, tmp_path / "second", progress=False)


@pytest.mark.slow
def test_torchrun_trains_what_two_processes_train(dataset: Path, tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from semd.scoring.network import Architecture\n"
        "from semd.scoring.training import train_scorer\n"
        "from semd.scoring.training_config import Stage, TrainingConfig\n"
        "form = Architecture(height_px=240, width_px=320, replicas=2)\n"
        "if __name__ == '__main__':\n"
        "    config = TrainingConfig(architecture=form, stages=(Stage(32, 32, 4, 2),), threads=1, bf16=False, seed=3)\n"
        "    train_scorer(config, Path(sys.argv[1]), Path(sys.argv[2]), progress=False, processes=int(sys.argv[3]))\n"
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
    result = train_scorer(one_pass, dataset, tmp_path, progress=False, processes=2)
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
        train_scorer(QUICK, dataset, tmp_path, progress=False, processes=0)


def test_shares_are_disjoint_and_of_one_length() -> None:
    rows = np.arange(11)
    shares = [Team(rank, 3).share(rows) for rank in range(3)]
    assert [len(share) for share in shares] == [3, 3, 3]
    assert set(np.concatenate(shares)) == set(range(9))
    assert Team(0, 3).leads
    assert not Team(1, 3).leads


def test_another_configuration_does_not_take_over_a_run(dataset: Path, tmp_path: Path) -> None:
    one_pass = replace(QUICK, stages=(Stage(32, 32, 4, 1),))
    train_scorer(one_pass, dataset, tmp_path, progress=False)
    with pytest.raises(TrainingError, match="another configuration"):
        train_scorer(replace(one_pass, learning_rate=0.5), dataset, tmp_path, progress=False)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="no checkpoint"):
        train_scorer(one_pass, dataset, tmp_path, progress=False)


def test_a_run_that_diverges_stops(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "rmse_loss", lambda scores, _target, _weight: scores.sum() * float("nan"))
    with pytest.raises(TrainingError, match="learning rate"):
        train_scorer(QUICK, dataset, tmp_path, progress=False)


def test_without_a_dataset_there_is_no_training(tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        train_scorer(QUICK, tmp_path / "nowhere", tmp_path / "run", progress=False)


def test_crops_are_parts_of_their_frames() -> None:
    images = np.arange(2 * 40 * 50, dtype=np.uint32).reshape(2, 40, 50)
    rng = np.random.default_rng(1)
    coded = (images % 251).astype(np.uint8)
    crops = random_crops(coded, np.array([1, 0, 1]), 16, 24, rng)
    assert crops.shape == (3, 16, 24)
    for crop, frame in zip(crops, (coded[1], coded[0], coded[1]), strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(frame, (16, 24))
        turned = (crop[::a, ::b] for a in (1, -1) for b in (1, -1))
        assert any((windows == view).all(axis=(2, 3)).any() for view in turned)


def test_the_place_with_most_in_it_is_preferred() -> None:
    image = np.zeros((1, 64, 256), np.uint8)
    image[0, :, 128:] = np.random.default_rng(0).integers(0, 256, (64, 128))
    rng = np.random.default_rng(2)
    empty = [float(random_crops(image, np.array([0]), 32, 32, rng, tries=6).std()) < 1.0 for _ in range(40)]
    assert np.mean(empty) < 0.15


def test_light_changes_are_mild_and_leave_some_alone() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (64, 24, 24)).astype(np.uint8)
    changed = photometric(crops, np.random.default_rng(3))
    plain = standardise(crops)
    untouched = np.abs(changed - plain).reshape(64, -1).max(axis=1) < 1e-4
    assert 0.1 < untouched.mean() < 0.55
    assert changed.dtype == np.float32
    assert changed.min() >= plain.min() - 1e-4
    assert changed.max() <= plain.max() + 1e-4


def test_without_noise_equal_greys_stay_equal_and_the_share_is_kept() -> None:
    crops = np.repeat(np.arange(64, dtype=np.uint8)[:, None, None] * 4, 8, axis=1).repeat(8, axis=2)
    changed = photometric(crops, np.random.default_rng(3), share=1.0, noise_share=0.0)
    assert np.ptp(changed.reshape(64, -1), axis=1).max() < 1e-6
    assert np.abs(changed - standardise(crops)).max() > 0.1
    noisy = photometric(crops, np.random.default_rng(3), share=1.0, noise_share=1.0)
    assert np.mean(np.ptp(noisy.reshape(64, -1), axis=1) > 0.01) > 0.8
    assert photometric(crops, np.random.default_rng(3), share=0.0) == pytest.approx(standardise(crops), abs=1e-5)


def test_stored_statistics_stay_as_they_are_while_their_gains_learn(dataset: Path, tmp_path: Path) -> None:
    first = train_scorer(QUICK, dataset, tmp_path / "first", progress=False).weights
    assert first is not None
    further = replace(QUICK, batch_statistics=False)
    second = train_scorer(further, dataset, tmp_path / "second", start=first, progress=False).weights
    assert second is not None
    before, after = (dict(network_from_bytes(p.read_bytes()).backbone.state_dict()) for p in (first, second))
    stored = [name for name in before if name.endswith(("running_mean", "running_var"))]
    assert len(stored) == 40
    assert all(torch.equal(before[name], after[name]) for name in stored)
    assert not torch.equal(before["bn1.weight"], after["bn1.weight"])


def test_the_rate_rises_and_falls_or_stays() -> None:
    config = TrainingConfig(warm_up=0.1, learning_rate=1e-3)
    assert rate_at(config, 0.0) < 1e-4
    assert rate_at(config, 0.1) == pytest.approx(1e-3)
    assert rate_at(config, 0.5) < 1e-3
    assert rate_at(config, 1.0) < 1e-5
    paper = paper_preset()
    assert {rate_at(paper, share) for share in (0.0, 0.5, 1.0)} == {2e-4}


def test_the_paper_preset_is_the_papers() -> None:
    paper = preset("paper")
    assert (paper.optimiser, paper.learning_rate, paper.momentum) == ("sgd", 2e-4, 0.9)
    assert paper.stages == (Stage(240, 320, 1, 100),)
    assert paper.target == "label"
    assert not paper.photometric


@pytest.mark.parametrize(
    "make",
    [
        lambda: preset("best"),
        lambda: TrainingConfig(stages=()),
        lambda: TrainingConfig(photometric=1.5),
        lambda: TrainingConfig(photometric_noise=-0.1),
        lambda: TrainingConfig(stages=(Stage(8, 320, 1, 1),)),
        lambda: TrainingConfig(learning_rate=0.0),
    ],
)
def test_impossible_configurations_are_refused(make: object) -> None:
    with pytest.raises(ConfigError):
        make()  # type: ignore[operator]


def test_stages_follow_one_another() -> None:
    config = TrainingConfig(stages=(Stage(32, 32, 4, 2), Stage(64, 64, 4, 1)))
    assert [config.stage_of(epoch).height_px for epoch in range(config.epochs)] == [32, 32, 64]
    with pytest.raises(IndexError):
        config.stage_of(3)


def test_the_report_by_hand() -> None:
    score = np.array([9.6, 9.8, 8.0, 4.2], np.float32)
    frames = LabelledFrames(
        images=np.zeros((4, 1, 1), np.uint8),
        field_id=np.arange(4),
        split=np.array(["test"] * 4),
        image_split=np.array(["train"] * 4),
        sample=np.array(["grid", "tinball", "grid", "grid"]),
        magnification=np.array([500, 500, 1000, 1000], np.float32),
        label=np.array([10, 10, 8, 4]),
        score=score,
        variant=np.array(["normal"] * 4),
        blur_px=np.zeros(4, np.float32),
        spec={},
    )
    figures = report(frames, np.arange(4), np.array([9.0, 8.0, 9.0, 4.0]))
    assert figures.rmse == pytest.approx(math.sqrt((1 + 4 + 1 + 0) / 4))
    assert figures.mae == pytest.approx(1.0)
    assert figures.by_magnification == {
        "500.0": pytest.approx(math.sqrt(2.5)),
        "1000.0": pytest.approx(math.sqrt(0.5)),
    }
    assert figures.by_sample["tinball"] == pytest.approx(2.0)
    assert figures.sharp_mean == pytest.approx(8.5)
    assert figures.sharp_accepted == pytest.approx(0.5)
    assert figures.soft_accepted == pytest.approx(0.5)
