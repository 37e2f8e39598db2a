"""The form in which labelled frames lie on disk, and its reader.

A dataset directory holds `images.npy` (uint8, (N, 480, 640)), `table.csv` with one row per frame (columns of
`COLUMNS`) and `spec.json` with what it was made from. The table is written last: a directory without it is
unfinished.

Two tests are kept apart from the training. `split` is grouped: frames of one field lie on the same side.
`image_split` is the papers': single images are drawn, so that most of them have siblings of the same field
among the training frames. What either keeps for the test is not trained on.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from semd.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS = (
    "index",
    "field_id",
    "split",
    "image_split",
    "sample",
    "magnification",
    "label",
    "score",
    "quality",
    "recognisability",
    "variant",
    "blur_px",
    "focus_wd_mm",
    "wd_mm",
    "brightness_contrast_ok",
)
IMAGES_NAME = "images.npy"
TABLE_NAME = "table.csv"
SPEC_NAME = "spec.json"
OTHER_SURFACES = ("assorted", "beads")
"""Samples that are there to widen the training, not to be judged by."""


@dataclass(frozen=True, slots=True)
class LabelledFrames:
    """A dataset, its images left on disk.

    Attributes:
        images: uint8 (N, 480, 640), memory-mapped, read-only.
        field_id: int64 (N,): frames of one field share it.
        split: str (N,): `train` or `test`, the same for all frames of a field.
        image_split: str (N,): `train` or `test`, drawn by image.
        sample: str (N,): kind of sample.
        magnification: float32 (N,).
        label: int64 (N,): the expert's integer score, 0..10.
        score: float32 (N,): the same rule without rounding.
        variant: str (N,): exposure variant, such as `normal`, `dark`, `bright`.
        blur_px: float32 (N,): effective blur diameter in pixels.
        spec: what the dataset was made from.
    """

    images: NDArray[np.uint8]
    field_id: NDArray[np.int64]
    split: NDArray[np.str_]
    image_split: NDArray[np.str_]
    sample: NDArray[np.str_]
    magnification: NDArray[np.float32]
    label: NDArray[np.int64]
    score: NDArray[np.float32]
    variant: NDArray[np.str_]
    blur_px: NDArray[np.float32]
    spec: dict[str, Any]

    def __len__(self) -> int:
        return len(self.label)

    @property
    def is_other_surface(self) -> NDArray[np.bool_]:
        """Mask of the frames of `OTHER_SURFACES`, bool (N,)."""
        return np.isin(self.sample, OTHER_SURFACES)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Row numbers, ascending: `test` (grouped by field), `image_test` (the papers'), or `train` (neither).

        Raises:
            DatasetError: another name.
        """
        grouped, by_image = self.split == "test", self.image_split == "test"
        chosen = {"test": grouped, "image_test": by_image, "train": ~grouped & ~by_image}
        if split not in chosen:
            raise DatasetError(f"a dataset has the splits {', '.join(chosen)}, not {split!r}")
        return np.flatnonzero(chosen[split]).astype(np.int64)


def read_dataset(directory: Path) -> LabelledFrames:
    """Open a dataset directory; images stay on disk until they are indexed.

    Raises:
        DatasetError: a file is missing, the table and the images disagree, or a field lies on both sides of
            the split.
    """
    table, images_path = directory / TABLE_NAME, directory / IMAGES_NAME
    if not table.is_file() or not images_path.is_file():
        raise DatasetError(f"{directory} holds no finished dataset: {IMAGES_NAME} and {TABLE_NAME} are needed")
    with table.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = set(COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise DatasetError(f"{table} lacks the columns {', '.join(sorted(missing))}")
        rows = list(reader)
    images = np.load(images_path, mmap_mode="r", allow_pickle=False)
    if images.ndim != 3 or images.dtype != np.uint8 or len(images) < len(rows):
        raise DatasetError(f"{images_path} is {images.dtype} {images.shape}, the table has {len(rows)} rows of uint8")
    # More images than rows: an addition that was not finished (see `dataset_writer`).
    images = images[: len(rows)]
    try:
        frames = LabelledFrames(
            images=images,
            field_id=np.array([int(row["field_id"]) for row in rows], np.int64),
            split=np.array([row["split"] for row in rows]),
            image_split=np.array([row["image_split"] for row in rows]),
            sample=np.array([row["sample"] for row in rows]),
            magnification=np.array([float(row["magnification"]) for row in rows], np.float32),
            label=np.array([int(row["label"]) for row in rows], np.int64),
            score=np.array([float(row["score"]) for row in rows], np.float32),
            variant=np.array([row["variant"] for row in rows]),
            blur_px=np.array([float(row["blur_px"]) for row in rows], np.float32),
            spec=_read_spec(directory),
        )
    except ValueError as error:
        raise DatasetError(f"{table} holds a value that is no number: {error}") from error
    leaked = np.intersect1d(frames.field_id[frames.split == "train"], frames.field_id[frames.split == "test"])
    if leaked.size:
        raise DatasetError(f"{table}: field {leaked[0]} lies on both sides of the split")
    return frames


def read_datasets(directories: Sequence[Path]) -> LabelledFrames:
    """Open several datasets as one; fields of different datasets are different fields.

    Raises:
        DatasetError: there is none, one is malformed, or their frames are of different sizes.
    """
    if not directories:
        raise DatasetError("at least one dataset is needed")
    parts = [read_dataset(directory) for directory in directories]
    if len(parts) == 1:
        return parts[0]
    sizes = {part.images.shape[1:] for part in parts}
    if len(sizes) > 1:
        raise DatasetError(f"the datasets hold frames of different sizes: {', '.join(map(str, sorted(sizes)))}")
    first = np.cumsum([0, *(int(part.field_id.max(initial=-1)) + 1 for part in parts[:-1])])
    return LabelledFrames(
        # Indexed like one array, which is all that is done with images.
        images=cast("NDArray[np.uint8]", _ConcatenatedImages([part.images for part in parts])),
        field_id=np.concatenate([part.field_id + start for part, start in zip(parts, first, strict=True)]),
        split=np.concatenate([part.split for part in parts]),
        image_split=np.concatenate([part.image_split for part in parts]),
        sample=np.concatenate([part.sample for part in parts]),
        magnification=np.concatenate([part.magnification for part in parts]),
        label=np.concatenate([part.label for part in parts]),
        score=np.concatenate([part.score for part in parts]),
        variant=np.concatenate([part.variant for part in parts]),
        blur_px=np.concatenate([part.blur_px for part in parts]),
        spec={"datasets": [part.spec for part in parts]},
    )


class _ConcatenatedImages:
    """Arrays of equally sized frames, left in place and indexed by one running number."""

    def __init__(self, parts: list[NDArray[np.uint8]]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])
        self.shape: tuple[int, ...] = (int(self._ends[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | tuple[Any, ...]) -> NDArray[np.uint8]:
        row, *rest = index if isinstance(index, tuple) else (index,)
        place = int(np.searchsorted(self._ends, row, side="right"))
        part = self._parts[place]
        return cast("NDArray[np.uint8]", part[(int(row) - int(self._ends[place]) + len(part), *rest)])


def _read_spec(directory: Path) -> dict[str, Any]:
    path = directory / SPEC_NAME
    if not path.is_file():
        return {}
    spec = json.loads(path.read_text(encoding="utf-8"))
    return spec if isinstance(spec, dict) else {}
