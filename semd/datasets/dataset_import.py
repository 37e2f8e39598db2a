"""`semd dataset import`: real frames and a table of experts' scores become a dataset."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from semd.datasets.dataset_writer import HEIGHT_PX, WIDTH_PX, DatasetWriter, FrameFacts, draw_splits
from semd.domain.axes import Parameters
from semd.errors import ConfigError, DatasetError, FrameError, ImageSizeError
from semd.inbox.dialects import read_parameters
from semd.inbox.image import FrameSize, decode_image
from semd.protocol.pairing import Dialect
from semd.scoring.preprocess import centre_crop

_NEEDED = ("file", "score")
_OPTIONAL = ("magnification", "field", "sample")
_BEST_SCORE = 10.0


@dataclass(frozen=True, slots=True)
class ImportSpec:
    """Settings of an import.

    Attributes:
        directory: the frames; names in the table are relative to it.
        table: CSV with the columns `file,score` and, where known, `magnification,field,sample`.
        out: the dataset.
        append: True where to add to a dataset that is there.
        dialect: of the sidecars, read where the table names no magnification.
        size: of a frame, as the daemon's `[watch]` has it: larger files are scaled down to it.
        test_share: share of the fields, and of the frames, kept for the two tests.
        seed: of the splits.
    """

    directory: Path
    table: Path
    out: Path
    append: bool = False
    dialect: Dialect = Dialect.COXEM
    size: FrameSize = field(default_factory=FrameSize)
    test_share: float = 0.1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ImportResult:
    """Result of an import.

    Attributes:
        frames: number of frames.
        fields: number of fields of view.
        cropped: frames larger than 640x480, of which the middle was taken.
    """

    frames: int
    fields: int
    cropped: int


def import_dataset(spec: ImportSpec, *, progress: bool = True) -> ImportResult:
    """Import real frames as the daemon would read them; either all of them or none.

    Raises:
        ConfigError: the size is smaller than a dataset's frames, or a share is out of range.
        DatasetError: the table cannot be read, or rows of it cannot be used: all of them are listed. Also where
            `out` is not as `append` needs it.
        StorageError: the dataset cannot be written.
    """
    if spec.size.width_px < WIDTH_PX or spec.size.height_px < HEIGHT_PX:
        raise ConfigError(
            f"frames of {spec.size.width_px}x{spec.size.height_px} are too small: a dataset holds "
            f"{WIDTH_PX}x{HEIGHT_PX}"
        )
    rows = list(_table_rows(spec.table))
    facts: list[FrameFacts] = []
    complaints: list[str] = []
    cropped = 0
    with DatasetWriter(spec.out, append=spec.append) as writer:
        for number, row in track(rows, "importing", console=Console(stderr=True), disable=not progress):
            try:
                image, fact = _read_row(spec, row)
            except _BadRowError as error:
                complaints.append(f"row {number}, {row['file'] or 'no file'}: {error}")
                continue
            cropped += image.shape != (HEIGHT_PX, WIDTH_PX)
            writer.add(centre_crop(image, HEIGHT_PX, WIDTH_PX))
            facts.append(fact)
        if complaints:
            raise DatasetError(
                f"{spec.table}: {len(complaints)} of {len(rows)} rows cannot be used, nothing was imported:\n"
                + "\n".join(complaints)
            )
        splits = draw_splits([fact.field for fact in facts], spec.test_share, spec.seed)
        origin = {"command": "semd dataset import", "test_share": spec.test_share, "seed": spec.seed}
        writer.finish(facts, splits, origin)
    return ImportResult(len(facts), len({fact.field for fact in facts}), cropped)


class _BadRowError(Exception):
    """Reason that a row cannot be used; never leaves this file."""


def _table_rows(table: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Rows with their line numbers; each has every known column, empty where nothing is written."""
    try:
        text = table.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{table}: cannot be read: {error}") from error
    reader = csv.DictReader(text.splitlines(), restkey="")
    header = [name.strip().lower() for name in reader.fieldnames or ()]
    reader.fieldnames = header
    missing = [name for name in _NEEDED if name not in header]
    unknown = [name for name in header if name not in (*_NEEDED, *_OPTIONAL)]
    if missing or unknown:
        raise DatasetError(
            f"{table}: the columns are {','.join(header) or 'none'}; wanted are {','.join(_NEEDED)} and, "
            f"where known, {','.join(_OPTIONAL)}"
        )
    found = False
    for row in reader:
        found = True
        yield reader.line_num, {name: (row.get(name) or "").strip() for name in (*_NEEDED, *_OPTIONAL)}
    if not found:
        raise DatasetError(f"{table}: no row below the columns' names")


def _read_row(spec: ImportSpec, row: Mapping[str, str]) -> tuple[NDArray[np.uint8], FrameFacts]:
    score = _number(row["score"], "score")
    if not 0.0 <= score <= _BEST_SCORE:
        raise _BadRowError(f"score {score:g} lies outside 0..10")
    path = spec.directory / row["file"]
    try:
        if not row["file"] or not path.is_file():
            raise _BadRowError(f"there is no such file in {spec.directory}")
        data = path.read_bytes()
        image = decode_image(data, path.suffix.lower(), spec.size)
        parameters = _parameters(spec.dialect, path, data, needed=not row["magnification"])
    except ImageSizeError as error:
        raise _BadRowError(f"{error}; nothing smaller than {WIDTH_PX}x{HEIGHT_PX} can be imported") from error
    except (FrameError, OSError) as error:
        raise _BadRowError(str(error)) from error
    magnification = _number(row["magnification"], "magnification") if row["magnification"] else None
    if magnification is None and parameters is not None:
        magnification = parameters.magnification
    if magnification is None or not magnification > 0.0:
        raise _BadRowError("the magnification is not known: neither the table nor a sidecar says a positive number")
    return image, FrameFacts(
        # Without a word about fields every frame counts as one of its own; a slash keeps the names apart.
        field=f"field/{row['field']}" if row["field"] else f"file/{row['file']}",
        magnification=magnification,
        score=score,
        sample=row["sample"] or "real",
        wd_mm=parameters.wd_mm if parameters is not None else None,
    )


def _parameters(dialect: Dialect, path: Path, image: bytes, *, needed: bool) -> Parameters | None:
    """The frame's parameters, or None where they cannot be read and are not needed."""
    sidecar = _sidecar(dialect, path)
    if sidecar is None and dialect.sidecar_suffix is not None and dialect is not Dialect.TESCAN:
        return None
    try:
        return read_parameters(dialect, sidecar.read_bytes() if sidecar is not None else b"", image, axes=())
    except FrameError:
        if needed:
            raise
        return None


def _sidecar(dialect: Dialect, path: Path) -> Path | None:
    suffix = dialect.sidecar_suffix
    if suffix is None:
        return None
    # TESCAN names the header of `a.tif` either `a.hdr` or `a-tif.hdr`.
    names = (path.with_suffix(suffix), path.with_name(f"{path.stem}-{path.suffix[1:]}{suffix}"))
    return next((name for name in names if name.is_file()), None)


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _BadRowError(f"{what} {text!r} is no number")
    return value
