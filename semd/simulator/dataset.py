"""Build a dataset of simulated frames in parallel processes, in the form `semd.scoring.dataset` reads."""

from __future__ import annotations

import csv
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from semd.errors import ConfigError
from semd.scoring.dataset import COLUMNS, IMAGES_NAME, SPEC_NAME, TABLE_NAME
from semd.simulator.field import Sample
from semd.simulator.grid import HollowPolicy
from semd.simulator.labelled import LabelledFrame, labelled_frames
from semd.simulator.optics import FRAME_HEIGHT_PX, FRAME_WIDTH_PX

Row = dict[str, str | int | float]
_FIELDS_PER_TASK = 8


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """What a dataset is made of; the same specification gives the same dataset.

    Attributes:
        fields: number of fields of view, tin ball and grid at all magnifications in turn.
        frames_per_field: frames of each field.
        magnifications: magnifications, equally frequent.
        assorted_share: additional fields of other surfaces at any magnification, as a share of `fields`; for
            training only.
        test_share: share of the fields kept for the test.
        zero_share: share of frames that are noise, white or black.
        hollow_share: share of grid fields taken at any place, hollow or not.
        seed: seed of everything.
    """

    fields: int = 3000
    frames_per_field: int = 5
    magnifications: tuple[float, ...] = (500.0, 1000.0, 2000.0, 5000.0, 10000.0)
    assorted_share: float = 0.25
    test_share: float = 0.12
    zero_share: float = 0.02
    hollow_share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            ConfigError: a count below 1, no magnification, or a share outside 0..1.
        """
        if self.fields < 1 or self.frames_per_field < 1 or not self.magnifications:
            raise ConfigError("a dataset needs at least one field, one frame per field and one magnification")
        for name in ("assorted_share", "test_share", "zero_share", "hollow_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} must lie within 0..1, not {getattr(self, name)}")

    @property
    def total_fields(self) -> int:
        """Number of fields, the assorted ones included."""
        return self.fields + round(self.fields * self.assorted_share)

    @property
    def total_frames(self) -> int:
        """Number of frames."""
        return self.total_fields * self.frames_per_field


@dataclass(frozen=True, slots=True)
class _FieldPlan:
    """What one field of the dataset is to be."""

    field_id: int
    sample: Sample
    magnification: float
    split: str
    seed: int
    hollow: HollowPolicy
    labels: tuple[int, ...]


def build_dataset(spec: DatasetSpec, directory: Path, workers: int = 2, *, progress: bool = True) -> Path:
    """Build a dataset into a directory and return that directory.

    Args:
        spec: what to build.
        directory: where; created. A dataset already there is replaced.
        workers: number of processes; the result does not depend on it.
        progress: whether to show a progress bar.

    Raises:
        ConfigError: fewer than one worker.
        OSError: the directory cannot be written.
    """
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, not {workers}")
    directory.mkdir(parents=True, exist_ok=True)
    # The table marks a dataset as finished, so the old one goes first and the new one comes last.
    (directory / TABLE_NAME).unlink(missing_ok=True)
    shape = (spec.total_frames, FRAME_HEIGHT_PX, FRAME_WIDTH_PX)
    images_path = directory / IMAGES_NAME
    np.lib.format.open_memmap(images_path, mode="w+", dtype=np.uint8, shape=shape).flush()

    tasks = [
        list(range(k, min(k + _FIELDS_PER_TASK, spec.total_fields)))
        for k in range(0, spec.total_fields, _FIELDS_PER_TASK)
    ]
    rows: list[Row] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, disable=not progress) as bar,
        ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        shown = bar.add_task("fields", total=spec.total_fields)
        pending = [pool.submit(_build_fields, spec, task, images_path) for task in tasks]
        try:
            for done in as_completed(pending):
                rows.extend(done.result())
                bar.advance(shown, len(done.result()) / spec.frames_per_field)
        except BaseException:
            # Ctrl+C or a failed worker: do not go on filling a dataset that will not be finished.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    rows.sort(key=lambda row: int(row["index"]))
    (directory / SPEC_NAME).write_text(json.dumps(asdict(spec), indent=2) + "\n", encoding="utf-8")
    partial = directory / (TABLE_NAME + ".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(directory / TABLE_NAME)
    return directory


def _plan(spec: DatasetSpec, field_id: int) -> _FieldPlan:
    """Decide about one field; independent of all others, so that workers need not talk."""
    rng = np.random.default_rng([spec.seed, field_id, 5])
    assorted = field_id >= spec.fields
    if assorted:
        sample: Sample = "assorted"
        magnification = float(np.exp(rng.uniform(np.log(400.0), np.log(12000.0))))
    else:
        sample = "tinball" if field_id % 2 == 0 else "grid"
        magnification = spec.magnifications[(field_id // 2) % len(spec.magnifications)]
    test = not assorted and rng.uniform() < spec.test_share
    # Labels come in runs of a random permutation; a repeated label becomes an exposure variant of the same
    # blur.
    labels = list(rng.permutation(np.arange(1, 11)))
    chosen: list[int] = []
    while len(chosen) < spec.frames_per_field:
        chosen += [int(labels[len(chosen) % 10])] * (2 if rng.uniform() < 0.2 else 1)
    return _FieldPlan(
        field_id=field_id,
        sample=sample,
        magnification=magnification,
        split="test" if test else "train",
        seed=int(rng.integers(0, 2**62)),
        hollow="allow" if rng.uniform() < spec.hollow_share else "avoid",
        labels=tuple(chosen[: spec.frames_per_field]),
    )


def _build_fields(spec: DatasetSpec, field_ids: list[int], images_path: Path) -> list[Row]:
    """Make the frames of some fields in a worker process; images go to the file, rows come back."""
    cv2.setNumThreads(1)
    images = np.load(images_path, mmap_mode="r+", allow_pickle=False)
    rows: list[Row] = []
    for field_id in field_ids:
        plan = _plan(spec, field_id)
        frames = labelled_frames(
            plan.sample, plan.magnification, plan.seed, list(plan.labels), plan.hollow, spec.zero_share
        )
        for k, frame in enumerate(frames):
            index = field_id * spec.frames_per_field + k
            images[index] = frame.image
            rows.append(_row(index, plan, frame))
    return rows


def _row(index: int, plan: _FieldPlan, frame: LabelledFrame) -> Row:
    truth = frame.truth
    return {
        "index": index,
        "field_id": plan.field_id,
        "split": plan.split,
        "sample": plan.sample,
        "magnification": round(plan.magnification, 1),
        "label": truth.label,
        "score": round(truth.true_score, 4),
        "quality": round(truth.quality, 4),
        "recognisability": round(truth.recognisability, 4),
        "variant": frame.variant,
        "blur_px": round(truth.blur_px, 3),
        "brightness_contrast_ok": int(truth.brightness_contrast_ok),
    }
