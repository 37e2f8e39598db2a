"""Real frames with a table of scores become a dataset: all or nothing, and an addition never harms the old."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from semd.datasets import dataset_writer
from semd.datasets.dataset import read_dataset
from semd.datasets.dataset_import import ImportSpec, import_dataset
from semd.datasets.dataset_writer import DatasetWriter, FrameFacts, draw_splits
from semd.errors import ConfigError, DatasetError
from semd.inbox.image import FrameSize
from semd.protocol.pairing import Dialect


def picture(seed: int, height_px: int = 480, width_px: int = 640) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height_px, width_px), dtype=np.uint8)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Four frames of three fields, one with a sidecar."""
    directory = tmp_path / "lab"
    directory.mkdir()
    for k in range(4):
        cv2.imwrite(str(directory / f"f{k}.png"), picture(k))
    (directory / "f3.txt").write_text("MAG=5000\nWD=9123.4\n")
    (directory / "scores.csv").write_text(
        "file,score,magnification,field,sample\n"
        "f0.png,9.5,500,a,grid\nf1.png,8,500,a,grid\nf2.png,3,1000,,\nf3.png,0,,b,\n"
    )
    return directory


def spec(lab: Path, out: Path, **changes: object) -> ImportSpec:
    return ImportSpec(lab, lab / "scores.csv", out, **changes)  # type: ignore[arg-type]


def test_what_is_imported_can_be_read(lab: Path, tmp_path: Path) -> None:
    result = import_dataset(spec(lab, tmp_path / "data", test_share=0.5, seed=3), progress=False)
    assert (result.frames, result.fields, result.cropped) == (4, 3, 0)
    frames = read_dataset(tmp_path / "data")
    for k in range(4):
        assert np.array_equal(frames.images[k], picture(k))
    assert frames.field_id.tolist() == [0, 0, 1, 2]
    assert frames.magnification.tolist() == [500, 500, 1000, 5000]
    assert frames.label.tolist() == [10, 8, 3, 0]
    assert frames.score.tolist() == [9.5, 8.0, 3.0, 0.0]
    assert frames.sample.tolist() == ["grid", "grid", "real", "real"]
    assert np.isnan(frames.blur_px).all()
    with (tmp_path / "data" / "table.csv").open(newline="") as file:
        assert [row["wd_mm"] for row in csv.DictReader(file)] == ["nan", "nan", "nan", "9.1234"]
    # Two of three fields, two of four frames.
    assert len(set(frames.field_id[frames.split == "test"])) == 2
    assert (frames.image_split == "test").sum() == 2
    again = import_dataset(spec(lab, tmp_path / "again", test_share=0.5, seed=3), progress=False)
    assert again == result
    for name in ("table.csv", "images.npy"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "data" / name).read_bytes()


def test_all_bad_rows_are_told_at_once_and_nothing_is_imported(lab: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(lab / "small.png"), picture(9, 240, 320))
    (lab / "text.png").write_text("no picture")
    with (lab / "scores.csv").open("a") as file:
        file.write("gone.png,5,500,,\nsmall.png,5,500,,\ntext.png,5,500,,\nf0.png,eleven,500,,\nf1.png,11,500,,\n")
        file.write("f2.png,5,,,\nf2.png,5,-3,,\n")
    with pytest.raises(DatasetError) as caught:
        import_dataset(spec(lab, tmp_path / "data"), progress=False)
    lines = str(caught.value).splitlines()
    assert "7 of 11 rows" in lines[0]
    for line, row, name, reason in zip(
        lines[1:],
        range(6, 13),
        ("gone.png", "small.png", "text.png", "f0.png", "f1.png", "f2.png", "f2.png"),
        ("no such file", "640x480", "SEMD-F05", "no number", "outside 0..10", "magnification", "magnification"),
        strict=True,
    ):
        assert line.startswith(f"row {row}, {name}: ")
        assert reason in line
    assert not list((tmp_path / "data").iterdir())


def test_appending_keeps_the_old_and_gives_new_fields(lab: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    import_dataset(spec(lab, out), progress=False)
    old = (out / "table.csv").read_text()
    with pytest.raises(DatasetError, match="--append"):
        import_dataset(spec(lab, out), progress=False)
    import_dataset(spec(lab, out, append=True), progress=False)
    frames = read_dataset(out)
    assert frames.field_id.tolist() == [0, 0, 1, 2, 3, 3, 4, 5]
    assert np.array_equal(frames.images[4:], frames.images[:4])
    assert (out / "table.csv").read_text().startswith(old)
    assert [part["added_frames"] for part in frames.spec["additions"]] == [4, 4]
    with pytest.raises(DatasetError, match="finished"):
        import_dataset(spec(lab, tmp_path / "none", append=True), progress=False)


@pytest.mark.parametrize("where", ["write_table", "write_atomically"])
def test_an_addition_that_fails_half_way_leaves_the_old(
    lab: Path, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "data"
    import_dataset(spec(lab, out), progress=False)

    def fail(*_: object) -> None:
        raise OSError("the power went")

    monkeypatch.setattr(dataset_writer, where, fail)
    with pytest.raises(OSError, match="power"):
        import_dataset(spec(lab, out, append=True), progress=False)
    monkeypatch.undo()
    assert len(read_dataset(out)) == 4
    assert np.array_equal(read_dataset(out).images[3], picture(3))
    import_dataset(spec(lab, out, append=True), progress=False)
    assert len(np.load(out / "images.npy", mmap_mode="r")) == 8
    assert np.array_equal(read_dataset(out).images[7], picture(3))


def test_a_bad_row_takes_back_what_was_appended(lab: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    import_dataset(spec(lab, out), progress=False)
    before = {name: (out / name).read_bytes() for name in ("images.npy", "table.csv", "spec.json")}
    with (lab / "scores.csv").open("a") as file:
        file.write("gone.png,5,500,,\n")
    with pytest.raises(DatasetError, match=r"gone\.png"):
        import_dataset(spec(lab, out, append=True), progress=False)
    assert {name: (out / name).read_bytes() for name in before} == before


def test_frames_are_seen_as_the_daemon_would_see_them(lab: Path, tmp_path: Path) -> None:
    large = cv2.resize(picture(5), (1280, 960), interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(lab / "f0.png"), large)
    import_dataset(spec(lab, tmp_path / "scaled"), progress=False)
    assert np.array_equal(read_dataset(tmp_path / "scaled").images[0], picture(5))
    # A daemon that takes frames of 1280x960 shows the scoring machine their middle.
    for k in range(1, 4):
        cv2.imwrite(str(lab / f"f{k}.png"), large)
    result = import_dataset(spec(lab, tmp_path / "middle", size=FrameSize(1280, 960)), progress=False)
    assert result.cropped == 4
    assert np.array_equal(read_dataset(tmp_path / "middle").images[0], large[240:720, 320:960])
    with pytest.raises(ConfigError, match="too small"):
        import_dataset(spec(lab, tmp_path / "tiny", size=FrameSize(320, 240)), progress=False)


def test_other_dialects_name_the_magnification(lab: Path, tmp_path: Path) -> None:
    (lab / "f3.txt").write_text("[SemImageFile]\nMagnification=1200\nWorkingDistance=7920.5 um\n")
    import_dataset(spec(lab, tmp_path / "data", dialect=Dialect.HITACHI), progress=False)
    assert read_dataset(tmp_path / "data").magnification[3] == 1200


@pytest.mark.parametrize(("text", "match"), [("file,mark\na,1\n", "wanted are"), ("file,score\n", "no row")])
def test_a_table_that_is_none_is_refused(lab: Path, tmp_path: Path, text: str, match: str) -> None:
    (lab / "scores.csv").write_text(text)
    with pytest.raises(DatasetError, match=match):
        import_dataset(spec(lab, tmp_path / "data"), progress=False)


def test_splits_keep_fields_together() -> None:
    fields = [f"field {k // 3}" for k in range(60)]
    splits = draw_splits(fields, 0.25, seed=1)
    sides = {
        field: {split for name, split in zip(fields, splits.by_field, strict=True) if name == field} for field in fields
    }
    assert all(len(side) == 1 for side in sides.values())
    assert sum(side == {"test"} for side in sides.values()) == 5
    assert splits.by_image.count("test") == 15
    assert draw_splits(fields, 0.25, seed=1) == splits != draw_splits(fields, 0.25, seed=2)
    with pytest.raises(ConfigError):
        draw_splits(fields, 1.5, seed=1)


def test_a_writer_takes_frames_of_one_form(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "data", append=False) as writer:
        with pytest.raises(DatasetError, match=r"\(480, 640\)"):
            writer.add(picture(0, 240, 320))
        writer.add(picture(0))
        facts = [FrameFacts("a", 500.0, 5.0), FrameFacts("a", 500.0, 5.0)]
        with pytest.raises(DatasetError, match="1 frames were added and 2 described"):
            writer.finish(facts, draw_splits(["a", "a"], 0.0, 0), {})
