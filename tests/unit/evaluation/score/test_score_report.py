"""The papers' tables with our rows, on a tiny dataset and random networks."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from semd.cli.train_commands import score as train_score_command
from semd.datasets.dataset import LabelledFrames
from semd.datasets.faulty import EMPTY, FAULTS
from semd.domain.frame_score import FrameScore, QualityFlag
from semd.errors import ConfigError, DatasetError
from semd.evaluation.score.figure_one import make_panels, orders, pairs_in_order
from semd.evaluation.score.flag_rates import is_ordinary, measure_flag_rates
from semd.evaluation.score.predictions import Predictions
from semd.evaluation.score.score_report import OURS, OURS_ANY_EXPOSURE, OURS_AS_MARKS, evaluate_score, parse_baselines
from semd.evaluation.score.score_table import NOT_TRAINED, PUBLISHED, make_row, table_text
from semd.scoring.network import Architecture, ScoringNetwork
from semd.scoring.scorer import Scorer
from semd.scoring.stored import network_from_bytes, network_to_bytes
from semd.training.score.config_variants import scale_epochs, scale_learning_rates, with_network
from semd.training.score.score_settings import ScoreTrainingConfig, Stage, preset

FORM = Architecture(height_px=240, width_px=320, replicas=2)


def untracked(steps, description):
    return steps


def random_scorer(seed: int, form: Architecture = FORM) -> Scorer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Scorer(ScoringNetwork(form))


@pytest.fixture(scope="module")
def frames() -> LabelledFrames:
    """Twenty-four frames at two magnifications: noise whose strength rises with the label."""
    count = 24
    rng = np.random.default_rng(2)
    label = np.arange(count) % 11
    images = np.stack([np.clip(rng.normal(128, 2 + 5 * each, (240, 320)), 0, 255).astype(np.uint8) for each in label])
    numbers = np.arange(count)
    return LabelledFrames(
        images=images,
        field_id=numbers.astype(np.int64),
        split=np.where(numbers % 4 == 3, "test", "train"),
        image_split=np.where(numbers % 6 == 5, "test", "train"),
        sample=np.where(numbers % 2 == 0, "tinball", "grid"),
        magnification=np.where(numbers % 3 == 0, 500.0, 10000.0).astype(np.float32),
        label=label.astype(np.int64),
        score=(label * 0.98).astype(np.float32),
        variant=np.where(numbers % 5 == 0, "wide", "normal"),
        blur_px=np.ones(count, np.float32),
        spec={},
    )


def test_a_row_by_hand(frames: LabelledFrames) -> None:
    rows = np.array([1, 2, 3, 11])  # labels 1, 2, 3, 0; magnifications 10000, 10000, 500, 10000
    said = Predictions(
        np.array([2.0, 2.0, 5.0, 0.0]), np.array([0.5, 0.5, 3.0, 9.0]), np.array([True, False, False, True])
    )
    row = make_row("x", frames, rows, said)
    assert row.rmse == pytest.approx(np.sqrt((1 + 0 + 4 + 0) / 4))
    assert row.mae == pytest.approx(3 / 4)
    assert row.by_magnification == pytest.approx({10000: np.sqrt(1 / 3), 500: 2.0})
    assert row.by_label == pytest.approx({0: 0.0, 1: 1.0, 2: 0.0, 3: 2.0})
    # Of the recognisable three, 1.02 off against 0.5 is outside, 0.04 and 2.06 against 3 are inside.
    assert row.coverage == pytest.approx(2 / 3)
    assert row.flagged == 0.5
    assert row.rmse_score == pytest.approx(np.sqrt((1.02**2 + 0.04**2 + 2.06**2 + 0) / 4), rel=1e-5)


def test_marks_are_the_mean_of_the_integers_that_a_score_may_round_to() -> None:
    # Surely 6.4; as likely below 6.5 as above; surely beyond either end.
    said = Predictions(np.array([6.4, 6.5, 10.4, -0.3]), np.array([0.01, 0.1, 0.01, 0.0]))
    assert said.as_marks().score == pytest.approx([6.0, 6.5, 10.0, 0.0], abs=1e-6)
    # By drawing: 4.3 +- 0.4.
    drawn = np.clip(np.rint(np.random.default_rng(0).normal(4.3, 0.4, 400_000)), 0, 10)
    assert Predictions(np.array([4.3]), np.array([0.4])).as_marks().score[0] == pytest.approx(drawn.mean(), abs=0.005)
    # Of all guesses the mean has the least square error against labels.
    truth = np.random.default_rng(1).uniform(1, 10, 20_000)
    score = truth + np.random.default_rng(2).normal(0.0, 0.15, len(truth))
    marks = Predictions(score, np.full(len(score), 0.15)).as_marks().score
    assert np.sqrt(((marks - np.rint(truth)) ** 2).mean()) < np.sqrt(((score - np.rint(truth)) ** 2).mean()) - 0.02
    with pytest.raises(ValueError, match="standard deviations"):
        Predictions(score).as_marks()


def test_the_published_rows_are_the_papers() -> None:
    variance, resnet50, resnet18 = PUBLISHED
    assert (variance.rmse, resnet50.rmse, resnet18.rmse) == (2.85, 0.5732, 0.4548)
    assert resnet18.by_magnification[10000] == 0.6729
    # The printed total of the metric is the mean of its columns: nothing is squared in it.
    assert np.mean(list(variance.by_magnification.values())) == pytest.approx(2.85, abs=0.001)


def test_all_methods_are_measured_on_the_same_frames_and_saved(frames: LabelledFrames, tmp_path: Path) -> None:
    baselines = {"no-magnification": random_scorer(1, replace(FORM, magnification="none"))}
    found = evaluate_score(frames, random_scorer(0), baselines, untracked, faulty=1)
    # Of the rows 3, 7, 11, 15, 19, 23 and 5, 11, 17, 23 those divisible by 5 are exposed far off.
    for split, count, everything in (("test", 5, 6), ("image_test", 3, 4)):
        measured = [row for row in found.splits[split] if not row.published and row.note != NOT_TRAINED]
        *measured, marks, any_exposure = measured
        assert (marks.name, marks.frames) == (OURS_AS_MARKS, count)
        assert {row.frames for row in measured} == {count}
        assert measured[-1].name == OURS
        assert (any_exposure.name, any_exposure.frames) == (OURS_ANY_EXPOSURE, everything)
        assert [row.name for row in found.splits[split] if row.note == NOT_TRAINED] == ["ResNet50"]
        assert found.ours[split].rmse == pytest.approx(measured[-1].rmse)
    found.save(tmp_path / "out")
    text = (tmp_path / "out" / "tables.txt").read_text()
    assert NOT_TRAINED in text
    assert "mean absolute error" in text
    with (tmp_path / "out" / "tables.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 * (3 + 3 + 2 + 3)
    ours = next(line for line in lines if line["split"] == "test" and line["method"] == OURS)
    assert float(ours["rmse"]) == pytest.approx(found.ours["test"].rmse, abs=1e-4)
    assert json.loads((tmp_path / "out" / "score.json").read_text())["fig1"]["pairs_in_order"]["pairs"] == 6
    for name in ("tables.png", "fig1.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_a_metric_that_follows_the_label_is_mapped_well(frames: LabelledFrames) -> None:
    found = evaluate_score(frames, random_scorer(0), {}, untracked, faulty=1)
    rmse = {row.name: row.rmse for row in found.splits["test"] if not row.published}
    assert rmse["absolute variance metric"] < 1.5
    assert rmse["gradient metric"] < 1.5


def test_a_magnification_without_training_frames_is_refused(frames: LabelledFrames) -> None:
    magnification = frames.magnification.copy()
    magnification[frames.rows("test")] = 2000.0
    with pytest.raises(DatasetError, match="x2000"):
        evaluate_score(replace(frames, magnification=magnification), random_scorer(0), {}, untracked, faulty=1)


def test_an_empty_split_is_refused(frames: LabelledFrames) -> None:
    nobody = replace(frames, image_split=np.full(len(frames), "train"))
    with pytest.raises(DatasetError, match="image_test"):
        evaluate_score(nobody, random_scorer(0), {}, untracked, faulty=1)


def test_the_table_says_what_is_not_trained_and_what_is_not_known() -> None:
    text = table_text([*PUBLISHED, replace(PUBLISHED[0], name="y", published=False, note=NOT_TRAINED)])
    assert next(line for line in text.splitlines() if line.startswith("y ")).split()[1:] == ["not", "trained"]
    assert "published: ResNet50" in text


class _Fixed:
    """Scorer that flags flat frames and gives every other frame the same score."""

    def judge(self, image, magnification):
        flags = (QualityFlag.BLANK,) if image.std() < 40 else ()
        return FrameScore(0.4 if flags else 3.0, 0.1, flags)


def test_flags_are_counted_by_fault() -> None:
    ordinary = Predictions(np.zeros(4), np.ones(4), np.array([True, False, False, False]))
    found = measure_flag_rates(_Fixed(), 2, 0, untracked, ordinary)  # type: ignore[arg-type]
    assert [row.fault for row in found.rows] == list(FAULTS)
    assert found.empty.frames == 2 * len(EMPTY)
    assert found.to_flag.frames == 2 * len(EMPTY) + 2
    assert (found.false_flags, found.ordinary) == (0.25, 4)
    black = next(row for row in found.rows if row.fault == "black")
    assert (black.flagged, black.largest_score, black.below_zero_score) == (1.0, 0.4, 1.0)
    assert black.by_flag == {"blank": 1.0}


def test_ordinary_frames_are_recognisable_and_plainly_exposed(frames: LabelledFrames) -> None:
    expected = [frames.label[k] > 0 and frames.variant[k] == "normal" for k in range(len(frames))]
    assert is_ordinary(frames).tolist() == expected


def test_gradient_and_variance_get_fig1_wrong() -> None:
    panels = make_panels()
    truth = [panel.truth for panel in panels]
    assert truth == sorted(truth, reverse=True)
    assert truth[0] > 9.5
    assert truth[-1] < 4.0
    found = orders(panels)
    assert found["pairs"] == 6
    assert found["gradient"] <= 1
    assert found["variance"] <= 2
    assert "score" not in found


def test_pairs_in_order_by_hand() -> None:
    assert pairs_in_order([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == 3
    assert pairs_in_order([2.0, 1.0, 3.0], [1.0, 2.0, 3.0]) == 2
    assert pairs_in_order([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) == 0


def test_rival_options(tmp_path: Path) -> None:
    weights = tmp_path / "a.safetensors"
    weights.write_bytes(b"x")
    assert parse_baselines([f"resnet50={weights}"]) == {"resnet50": weights}
    for wrong in (["resnet50"], [f"={weights}"], ["a=missing"], [f"a={weights}", f"a={weights}"]):
        with pytest.raises(ConfigError, match="NAME=FILE"):
            parse_baselines(wrong)


def test_rivals_differ_in_one_thing_and_do_not_read_the_spectrum() -> None:
    ours = ScoreTrainingConfig()
    assert with_network(ours, "ours") == ours
    resnet50, blind = with_network(ours, "resnet50"), with_network(ours, "no-magnification")
    # The papers' networks see pixels alone.
    pixels = replace(ours.architecture, spectrum=False)
    assert resnet50 == replace(ours, architecture=replace(pixels, backbone="resnet50"))
    assert blind == replace(ours, architecture=replace(pixels, magnification="none"))
    with pytest.raises(ConfigError, match="resnet50"):
        with_network(ours, "vgg")


def test_passes_are_scaled_and_the_first_stage_keeps_one() -> None:
    ours = ScoreTrainingConfig(stages=(Stage(240, 320, 16, 8), Stage(480, 640, 8, 2)))
    assert [stage.epochs for stage in scale_epochs(ours, 2.0).stages] == [16, 4]
    assert [stage.epochs for stage in scale_epochs(ours, 0.4).stages] == [3, 1]
    # Half an epoch of whole frames costs more than the two of crops that are left beside it.
    assert scale_epochs(ours, 0.25).stages == (Stage(240, 320, 16, 2),)
    assert scale_epochs(ours, 0.01).stages == (Stage(240, 320, 16, 1),)
    heads = preset("heads")
    assert scale_epochs(heads, 0.5) == replace(heads, heads_passes=15)
    assert scale_epochs(heads, 0.001).heads_passes == 1
    with pytest.raises(ConfigError, match="positive"):
        scale_epochs(ours, 0.0)


def test_rates_are_scaled_together() -> None:
    ours = ScoreTrainingConfig()
    slow = scale_learning_rates(ours, 0.25)
    assert slow == replace(ours, learning_rate=3e-4, heads_rate=5e-4)
    with pytest.raises(ConfigError, match="positive"):
        scale_learning_rates(ours, 0.0)


def test_a_network_without_magnification_ignores_it_and_survives_the_file() -> None:
    form = replace(FORM, magnification="none")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        network = ScoringNetwork(form)
    again = Scorer(network_from_bytes(network_to_bytes(network)))
    image = np.random.default_rng(0).integers(0, 256, (240, 320)).astype(np.uint8)
    assert again.score(image, 500.0) == again.score(image, 10000.0)


def test_a_rival_is_not_shipped(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--promote"):
        train_score_command(tmp_path, tmp_path / "run", network="resnet50", promote=tmp_path / "models")
