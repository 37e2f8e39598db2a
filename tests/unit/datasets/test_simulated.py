"""Building labelled datasets: same specification, same data; split by field; labels from what is visible."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from semd.cli import app
from semd.datasets.dataset import COLUMNS, read_dataset
from semd.datasets.labelled import RareFrameShares, labelled_frames, random_blur
from semd.datasets.simulated import DatasetSpec, build_dataset, read_magnifications
from semd.domain.expert_scale import blur_for_quality, lenient_blur_px, worst_blur_px
from semd.errors import ConfigError, DatasetError
from semd.simulator.beads import beads_emission
from semd.simulator.optics import Blur

SPEC = DatasetSpec(frames=11, frames_per_field=3, assorted_share=0.3, test_share=0.5, seed=11)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_dataset(SPEC, tmp_path_factory.mktemp("data") / "one", workers=1, progress=False)


def test_what_is_built_can_be_read(directory: Path) -> None:
    frames = read_dataset(directory)
    # Eleven frames of four fields, the last with two, and three of another surface.
    assert len(frames) == SPEC.total_frames == 14
    assert frames.images.shape == (14, 480, 640)
    assert np.bincount(frames.field_id).tolist() == [3, 3, 3, 2, 3]
    assert set(frames.sample[frames.split == "test"]) <= {"tinball", "grid"}
    assert np.array_equal(frames.label, np.round(frames.score))
    assert frames.spec["seed"] == 11
    assert (frames.images.reshape(14, -1).std(axis=1) > 0).any()


def test_two_tests_are_kept_from_the_training(directory: Path) -> None:
    frames = read_dataset(directory)
    grouped, by_image, trained = (set(frames.rows(name)) for name in ("test", "image_test", "train"))
    assert len({frames.field_id[row] for row in grouped}) == 2
    assert len(by_image) == round(11 * 0.5)
    assert not trained & (grouped | by_image)
    assert trained | grouped | by_image == set(range(14))
    with pytest.raises(DatasetError, match="image_test"):
        frames.rows("training")


def test_the_papers_numbers() -> None:
    spec = DatasetSpec()
    assert (spec.frames, sum(len(spec.frames_of(field)) for field in range(spec.fields))) == (30272, 30272)
    assert spec.fields > 5000
    assert spec.frames_of(spec.fields).start == 30272
    assert round(spec.frames * spec.test_share) == 3037


def test_label_noise_moves_labels_and_nothing_else(directory: Path, tmp_path: Path) -> None:
    noisy = read_dataset(build_dataset(replace(SPEC, label_noise=1.5), tmp_path / "n", workers=1, progress=False))
    plain = read_dataset(directory)
    assert np.array_equal(noisy.images, plain.images)
    assert np.array_equal(noisy.score, plain.score)
    assert not np.array_equal(noisy.label, plain.label)
    assert noisy.label.max() <= 10
    assert ((noisy.label == 0) == (plain.label == 0)).all()


def test_the_working_distance_explains_the_blur(directory: Path) -> None:
    with (directory / "table.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            focus_mm, wd_mm, blur_px = (float(row[name]) for name in ("focus_wd_mm", "wd_mm", "blur_px"))
            assert 6.0 <= focus_mm <= 16.0
            # alpha = 30 um / WD; the disc is hardly wider than the whole blur.
            disc_px = 2.0 * 30e-3 / focus_mm * abs(wd_mm - focus_mm) / (127.0 / 640 / float(row["magnification"]))
            assert disc_px <= 1.25 * blur_px + 0.5


def test_the_number_of_workers_changes_nothing(directory: Path, tmp_path: Path) -> None:
    other = build_dataset(SPEC, tmp_path / "two", workers=2, progress=False)
    assert (other / "table.csv").read_bytes() == (directory / "table.csv").read_bytes()
    assert (other / "images.npy").read_bytes() == (directory / "images.npy").read_bytes()


def test_an_unfinished_dataset_is_refused(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "images.npy").write_bytes((directory / "images.npy").read_bytes())
    with pytest.raises(DatasetError, match="finished"):
        read_dataset(tmp_path)


def _rewrite(directory: Path, target: Path, **changes: str) -> Path:
    with (directory / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[1].update(changes)
    with (target / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    (target / "images.npy").write_bytes((directory / "images.npy").read_bytes())
    return target


def test_a_field_on_both_sides_of_the_split_is_refused(directory: Path, tmp_path: Path) -> None:
    first = str(read_dataset(directory).split[0])
    with pytest.raises(DatasetError, match="both sides"):
        read_dataset(_rewrite(directory, tmp_path, split="test" if first == "train" else "train"))


def test_a_value_that_is_no_number_is_refused(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no number"):
        read_dataset(_rewrite(directory, tmp_path, label="sharp"))


def test_far_frames_lie_beyond_the_scales_end_at_any_label() -> None:
    frames = labelled_frames(
        "tinball", 5000, 5, [9, 6, 3, 10, 2], rare_shares=RareFrameShares(zero_share=0.0, far_share=1.0)
    )
    blurs = [frame.truth.blur_px for frame in frames]
    assert min(blurs) >= worst_blur_px(5000) - 0.1
    assert max(blurs) <= 4.0 * worst_blur_px(5000) + 0.1
    assert max(blurs) > 1.5 * min(blurs)
    assert {frame.truth.quality for frame in frames} == {1.0}
    assert all(frame.truth.label <= 1 for frame in frames)


def test_smoothed_frames_keep_their_label_and_lose_their_noise() -> None:
    wanted = [10, 8, 6, 4, 2]
    smoothed = labelled_frames("tinball", 1000, 5, wanted, rare_shares=RareFrameShares(0.0, smoothed_share=1.0))
    plain = labelled_frames("tinball", 1000, 5, wanted, rare_shares=RareFrameShares(0.0))
    assert [round(frame.truth.quality) for frame in smoothed] == wanted
    # What lies between neighbouring pixels is noise, more of it the lower the label: blur lowers the rest.
    for one, other in zip(smoothed[1:], plain[1:], strict=True):
        assert _finest(one.image) < 0.7 * _finest(other.image)
    assert {frame.variant for frame in smoothed} == {"normal"}


def _finest(image: NDArray[np.uint8]) -> float:
    """Standard deviation of a checkerboard's share in each 2x2 square, in grey levels."""
    grey = image.astype(np.float64)
    return float((grey[::2, ::2] - grey[1::2, ::2] - grey[::2, 1::2] + grey[1::2, 1::2]).std() / 2.0)


def test_wanted_labels_come_out() -> None:
    frames = labelled_frames("tinball", 1000, 5, [9, 6, 3], rare_shares=RareFrameShares(zero_share=0.0))
    assert [round(frame.truth.quality) for frame in frames] == [9, 6, 3]
    assert all(frame.image.shape == (480, 640) for frame in frames)


def test_a_repeated_label_is_an_exposure_variant_of_one_blur() -> None:
    frames = labelled_frames("grid", 1000, 6, [7, 7], rare_shares=RareFrameShares(zero_share=0.0))
    assert frames[0].truth.blur_px == frames[1].truth.blur_px
    assert not np.array_equal(frames[0].image, frames[1].image)


def test_nothing_to_see_is_labelled_zero() -> None:
    frames = labelled_frames("grid", 1000, 6, [10, 5, 2, 8], rare_shares=RareFrameShares(zero_share=1.0))
    assert {frame.truth.label for frame in frames} == {0}
    assert {frame.variant for frame in frames} <= {"noise", "white", "black"}


@pytest.mark.parametrize("quality", [9.7, 8.0, 3.0])
def test_random_shapes_keep_the_wanted_size(quality: float) -> None:
    rng = np.random.default_rng(1)
    wanted_px = blur_for_quality(quality, 2000)
    for _ in range(20):
        assert random_blur(rng, wanted_px, 2000).effective_px == pytest.approx(wanted_px, rel=1e-6)
    assert lenient_blur_px(2000) == 4.0


def test_a_dataset_of_one_magnification_can_be_asked_for(tmp_path: Path) -> None:
    build = f"dataset build {tmp_path / 'd'} --frames 4 --frames-per-field 2"
    told = CliRunner().invoke(app, f"{build} --magnifications 500 --assorted-share 0 --seed 3 --workers 1")
    assert told.exit_code == 0, told.output
    assert set(read_dataset(tmp_path / "d").magnification) == {500.0}


@pytest.mark.parametrize("text", ["", "500,", "500;1000", "x500", "0", "-500", "nan", "inf"])
def test_magnifications_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="magnifications"):
        DatasetSpec(magnifications=read_magnifications(text))


@pytest.mark.parametrize("bad", [{"frames": 0}, {"magnifications": ()}, {"test_share": 1.5}, {"label_noise": -1.0}])
def test_impossible_specifications_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        DatasetSpec(**bad)  # type: ignore[arg-type]


def test_empty_fields_show_next_to_nothing_at_high_magnification(tmp_path: Path) -> None:
    spec = DatasetSpec(
        frames=12, frames_per_field=3, magnifications=(10000.0,), assorted_share=0.0, zero_share=0.0, empty_share=1.0
    )
    frames = read_dataset(build_dataset(replace(spec, hollow_share=0.0), tmp_path, workers=1, progress=False))
    grid = frames.sample == "grid"
    assert np.count_nonzero(grid) == 6
    assert np.all(frames.score[grid] < 5.0)
    assert np.mean(frames.score[~grid]) > 4.0


def test_beads_take_their_share_of_the_other_surfaces_and_change_no_other_field(tmp_path: Path) -> None:
    spec = DatasetSpec(frames=4, frames_per_field=1, assorted_share=1.0, test_share=0.0, seed=3)
    without = read_dataset(build_dataset(spec, tmp_path / "without", workers=1, progress=False))
    all_beads = replace(spec, beads_share=1.0)
    beads = read_dataset(build_dataset(all_beads, tmp_path / "beads", workers=1, progress=False))
    assert without.sample.tolist() == ["tinball", "grid"] * 2 + ["assorted"] * 4
    assert beads.sample.tolist() == ["tinball", "grid"] * 2 + ["beads"] * 4
    assert np.array_equal(without.images[:4], beads.images[:4])
    assert without.is_other_surface.tolist() == beads.is_other_surface.tolist() == [False] * 4 + [True] * 4
    with pytest.raises(ConfigError, match="beads_share"):
        replace(spec, beads_share=1.5)


def test_a_wide_disc_turns_fine_beads_inside_out_as_optics_says() -> None:
    """The transfer function of a disc of diameter D at frequency f is 2 J1(pi D f) / (pi D f), 0 at D f = 1.22."""
    rng = np.random.default_rng(5)
    layer = beads_emission(rng, (480, 640), 1.3)
    power = np.abs(np.fft.rfft2(layer - layer.mean())) ** 2
    frequency = np.hypot(np.fft.fftfreq(480)[:, None], np.fft.rfftfreq(640)[None])
    rings = np.bincount((frequency * 200).astype(int).ravel(), power.ravel())
    # The strongest ring beyond the slow changes is that of the rows: their distance is 0.87 pitches, 4.5 to 9 px.
    strongest = (12 + int(np.argmax(rings[12:100]))) / 200.0
    assert 1.0 / (0.87 * 9.0) < strongest < 1.0 / (0.87 * 4.5)
    is_row = np.abs(frequency - strongest - 0.0025) < 0.02
    for cycles, sign in ((0.6, 1.0), (1.7, -1.0)):
        diameter_px = cycles / strongest
        blurred = Blur(diameter_px, diameter_px).apply(layer)
        before, after = (np.where(is_row, np.fft.rfft2(each), 0.0) for each in (layer, blurred))
        agreement = float((before * after.conj()).real.sum() / (np.linalg.norm(before) * np.linalg.norm(after)))
        assert sign * agreement > 0.6
