"""Writer of the form that `semd.datasets.dataset` reads: new datasets, and additions that cannot damage old ones.

Images come first and the table last. What lies in `images.npy` beyond the rows of the table belongs to an addition
that was not finished: readers do not look at it, and the next addition overwrites it.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from semd.datasets.dataset import COLUMNS, IMAGES_NAME, SPEC_NAME, TABLE_NAME, read_dataset
from semd.errors import ConfigError, DatasetError
from semd.service.storage import rename, storage_error, write_atomically

Row = dict[str, str | int | float]

HEIGHT_PX, WIDTH_PX = 480, 640
"""Size of every frame of a dataset."""

_UNKNOWN = "nan"


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """Facts about a frame that no simulator made.

    Attributes:
        field: name of its field of view; frames of one name share a field.
        magnification: in x.
        score: the expert's, 0..10.
        sample: kind of sample.
        blur_px: effective blur diameter in pixels, or None.
        focus_wd_mm: working distance of the focus, or None.
        wd_mm: working distance, or None.
    """

    field: str
    magnification: float
    score: float
    sample: str = "real"
    blur_px: float | None = None
    focus_wd_mm: float | None = None
    wd_mm: float | None = None


@dataclass(frozen=True, slots=True)
class Splits:
    """Side of each frame, `train` or `test`: by field, and by image."""

    by_field: tuple[str, ...]
    by_image: tuple[str, ...]


def draw_splits(fields: Sequence[str], test_share: float, seed: int) -> Splits:
    """Draw both splits: by whole fields, and by single images.

    Args:
        fields: name of every frame's field.
        test_share: share of the fields, and of the frames, kept for the tests.
        seed: of the draw.

    Raises:
        ConfigError: the share lies outside 0..1.
    """
    if not 0.0 <= test_share <= 1.0:
        raise ConfigError(f"the test's share must lie within 0..1, not {test_share}")
    rng = np.random.default_rng([seed, 6])
    known = sorted(set(fields))
    tested = {known[k] for k in rng.permutation(len(known))[: round(len(known) * test_share)]}
    images = set(rng.permutation(len(fields))[: round(len(fields) * test_share)].tolist())
    return Splits(
        by_field=tuple("test" if field in tested else "train" for field in fields),
        by_image=tuple("test" if k in images else "train" for k in range(len(fields))),
    )


def write_table(directory: Path, rows: Iterable[Row]) -> None:
    """Write the table, which completes a dataset; the old table stays until the new one is whole.

    Raises:
        StorageError: it cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(directory / TABLE_NAME, text.getvalue().encode())


class DatasetWriter:
    """Adds frames to a new or an existing dataset; used in a `with` block.

    Frames are added one by one and become part of the dataset all at once in `finish`. Leaving the block without it
    leaves everything as it was.

    Args:
        directory: of the dataset; created for a new one.
        append: True where to add to a dataset that is there.

    Raises:
        DatasetError: there is a dataset and `append` is not set; or it is, and there is none, or one of frames of
            another size.
        StorageError: the directory cannot be written (any method).
    """

    def __init__(self, directory: Path, *, append: bool) -> None:
        self._directory = directory
        self._append = append
        self._rows: list[Row] = []
        self._spec: dict[str, Any] = {}
        self._known_fields = 0
        self._added = 0
        self._finished = False
        if not append and (directory / TABLE_NAME).exists():
            raise DatasetError(f"{directory} holds a dataset already; add to it with --append or name a new folder")
        if append:
            self._read_old()
        self._path = directory / (IMAGES_NAME if append else f".{IMAGES_NAME}.partial")
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = self._path.open("r+b" if append else "w+b")
        except OSError as error:
            raise storage_error(self._path, "write", error) from error
        try:
            self._first_byte = self._check_header() if append else self._write_header(0)
            self._rewind()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> DatasetWriter:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take back what was added, unless it is finished."""
        if not self._finished:
            if self._append:
                self._rewind()
            else:
                self._path.unlink(missing_ok=True)
        self._file.close()

    def add(self, image: NDArray[np.uint8]) -> None:
        """Add one frame, uint8 (480, 640)."""
        if image.shape != (HEIGHT_PX, WIDTH_PX) or image.dtype != np.uint8:
            raise DatasetError(f"a dataset holds frames of uint8 (480, 640), not {image.dtype} {image.shape}")
        try:
            self._file.write(np.ascontiguousarray(image).tobytes())
        except OSError as error:
            raise storage_error(self._path, "write", error) from error
        self._added += 1

    def finish(self, facts: Sequence[FrameFacts], splits: Splits, origin: dict[str, Any]) -> NDArray[np.int64]:
        """Make the frames part of the dataset.

        Args:
            facts: of every frame added, in order.
            splits: likewise.
            origin: where they come from, for `spec.json`.

        Returns:
            Their row numbers, int64 (frames,).
        """
        first = len(self._rows)
        names = {name: self._known_fields + k for k, name in enumerate(dict.fromkeys(fact.field for fact in facts))}
        sides = zip(facts, splits.by_field, splits.by_image, strict=True)
        rows = [
            _row(first + k, names[fact.field], split, image_split, fact)
            for k, (fact, split, image_split) in enumerate(sides)
        ]
        if len(rows) != self._added:
            raise DatasetError(f"{self._added} frames were added and {len(rows)} described")
        spec = {**self._spec, "additions": [*self._spec.get("additions", []), {**origin, "added_frames": len(rows)}]}
        try:
            self._sync()
            self._write_header(first + len(rows))
            self._sync()
            if not self._append:
                rename(self._path, self._directory / IMAGES_NAME)
        except OSError as error:
            raise storage_error(self._path, "write", error) from error
        self._finished = True
        write_atomically(self._directory / SPEC_NAME, (json.dumps(spec, indent=2) + "\n").encode())
        write_table(self._directory, [*self._rows, *rows])
        return np.arange(first, first + len(rows), dtype=np.int64)

    def _read_old(self) -> None:
        frames = read_dataset(self._directory)
        if frames.images.shape[1:] != (HEIGHT_PX, WIDTH_PX):
            raise DatasetError(f"{self._directory} holds frames of {frames.images.shape[1:]}, not of (480, 640)")
        with (self._directory / TABLE_NAME).open(newline="", encoding="utf-8") as file:
            self._rows = [{name: row[name] for name in COLUMNS} for row in csv.DictReader(file)]
        self._spec = frames.spec
        self._known_fields = int(frames.field_id.max()) + 1 if len(frames) else 0

    def _check_header(self) -> int:
        """Offset of the dataset's images, if the header has room for their new number."""
        if np.lib.format.read_magic(self._file) != (1, 0):
            raise DatasetError(f"{self._path} is of another version of the format; save it anew with numpy.save")
        shape, fortran, _ = np.lib.format.read_array_header_1_0(self._file)
        begin = self._file.tell()
        if fortran or len(_header(shape[0])) != begin:
            raise DatasetError(f"{self._path} leaves no room to grow; save it anew with numpy.save")
        return begin

    def _write_header(self, frames: int) -> int:
        self._file.seek(0)
        return self._file.write(_header(frames))

    def _rewind(self) -> None:
        """Cut off the images behind the rows of the table."""
        end = self._first_byte + len(self._rows) * HEIGHT_PX * WIDTH_PX
        self._write_header(len(self._rows))
        self._file.flush()
        self._file.truncate(end)
        self._file.seek(end)

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


def _header(frames: int) -> bytes:
    """The header of the image file, of the same length for any number of frames."""
    text = io.BytesIO()
    shape = (frames, HEIGHT_PX, WIDTH_PX)
    np.lib.format.write_array_header_1_0(text, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return text.getvalue()


def _row(index: int, field_id: int, split: str, image_split: str, fact: FrameFacts) -> Row:
    return {
        "index": index,
        "field_id": field_id,
        "split": split,
        "image_split": image_split,
        "sample": fact.sample,
        "magnification": round(fact.magnification, 1),
        "label": round(fact.score),
        "score": round(fact.score, 4),
        "quality": _UNKNOWN,
        "recognisability": _UNKNOWN,
        "variant": "real",
        "blur_px": _or_unknown(fact.blur_px, 3),
        "focus_wd_mm": _or_unknown(fact.focus_wd_mm, 4),
        "wd_mm": _or_unknown(fact.wd_mm, 4),
        "brightness_contrast_ok": _UNKNOWN,
    }


def _or_unknown(value: float | None, decimals: int) -> float | str:
    return _UNKNOWN if value is None else round(value, decimals)
