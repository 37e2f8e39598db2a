"""Several datasets read as one."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from semd.datasets.dataset import COLUMNS, read_dataset, read_datasets
from semd.errors import DatasetError


def a_dataset(directory: Path, frames: int, seed: int, side_px: int = 8) -> Path:
    directory.mkdir()
    images = np.random.default_rng(seed).integers(0, 256, (frames, side_px, side_px)).astype(np.uint8)
    np.save(directory / "images.npy", images)
    with (directory / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for k in range(frames):
            told = {"index": k, "field_id": k // 2, "split": "test" if k < 2 else "train", "image_split": "train"}
            writer.writerow(dict.fromkeys(COLUMNS, seed) | told)
    return directory


def test_frames_stand_behind_one_another_and_fields_stay_apart(tmp_path: Path) -> None:
    parts = [a_dataset(tmp_path / "one", 5, 1), a_dataset(tmp_path / "two", 4, 2)]
    one, two = (read_dataset(part) for part in parts)
    both = read_datasets(parts)
    assert len(both) == len(both.images) == 9
    assert both.images.shape == (9, 8, 8)
    for row in range(9):
        expected = one.images[row] if row < 5 else two.images[row - 5]
        assert np.array_equal(both.images[row], expected)
        assert np.array_equal(both.images[np.int64(row), 2:5, 1:7], expected[2:5, 1:7])
    assert both.field_id.tolist() == [0, 0, 1, 1, 2, 3, 3, 4, 4]
    assert both.score.tolist() == [1.0] * 5 + [2.0] * 4
    assert both.rows("test").tolist() == [0, 1, 5, 6]


def test_one_alone_is_itself(tmp_path: Path) -> None:
    part = a_dataset(tmp_path / "one", 5, 1)
    assert np.array_equal(read_datasets([part]).images, read_dataset(part).images)


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    parts = [a_dataset(tmp_path / "one", 5, 1), a_dataset(tmp_path / "two", 4, 2, side_px=10)]
    with pytest.raises(DatasetError, match="different sizes"):
        read_datasets(parts)
    with pytest.raises(DatasetError, match="at least one"):
        read_datasets([])
