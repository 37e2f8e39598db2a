"""Build a dataset of simulated frames in parallel processes, in the form `semd.datasets.dataset` reads."""

from __future__ import annotations

import json
import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from semd.datasets.dataset import IMAGES_NAME, SPEC_NAME, TABLE_NAME
from semd.datasets.dataset_writer import Row, write_table
from semd.datasets.labelled import LabelledFrame, RareFrameShares, labelled_frames
from semd.errors import ConfigError
from semd.simulator.field import Sample
from semd.simulator.grid import HollowPolicy
from semd.simulator.optics import FRAME_HEIGHT_PX, FRAME_WIDTH_PX

_FIELDS_PER_TASK = 8


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """Specification of a dataset; the same one gives the same dataset.

    Attributes:
        frames: number of tin ball and grid frames; the papers' 30,272.
        frames_per_field: frames of each field of view; fields take sample and magnification in turn.
        magnifications: magnifications, equally frequent.
        assorted_share: additional frames of other surfaces at any magnification, as a share of `frames`; for
            training only.
        beads_share: share of these fields that are layers of latex beads.
        test_share: share of the fields, and of the frames, kept for the two tests; the papers' 3,037.
        zero_share: share of frames that are noise, white or black.
        hollow_share: share of grid fields taken at any place, hollow or not.
        empty_share: share of the others in the middle of a hollow: above about x3000 almost nothing is visible.
        far_share: share of the blurs beyond the scale's end; label 1 is then more frequent than the others.
        smoothed_share: share of the other blurs that befall the finished frame, its noise included.
        label_noise: standard deviation in points of the expert who writes the labels.
        seed: seed of everything.
    """

    frames: int = 30272
    frames_per_field: int = 6
    magnifications: tuple[float, ...] = (500.0, 1000.0, 2000.0, 5000.0, 10000.0)
    assorted_share: float = 0.2
    beads_share: float = 0.0
    test_share: float = 3037 / 30272
    zero_share: float = 0.02
    hollow_share: float = 0.1
    empty_share: float = 0.0
    far_share: float = 0.0
    smoothed_share: float = 0.0
    label_noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot be built.

        Raises:
            ConfigError: a count below 1, no magnification or one below 1, or a share outside 0..1.
        """
        if self.frames < 1 or self.frames_per_field < 1 or not self.magnifications:
            raise ConfigError("a dataset needs at least one frame, one frame per field and one magnification")
        for name in (each.name for each in fields(self) if each.name.endswith("_share")):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} must lie within 0..1, not {getattr(self, name)}")
        if not all(1.0 <= each < math.inf for each in self.magnifications):
            raise ConfigError(f"magnifications must be at least 1: {self.magnifications}")
        if not self.label_noise >= 0.0:
            raise ConfigError(f"label_noise must not be negative, it is {self.label_noise}")

    @property
    def total_frames(self) -> int:
        """Number of frames, the assorted ones included."""
        return self.frames + round(self.frames * self.assorted_share)

    @property
    def fields(self) -> int:
        """Number of tin ball and grid fields; the last may have fewer frames than the others."""
        return math.ceil(self.frames / self.frames_per_field)

    @property
    def total_fields(self) -> int:
        """Number of fields, the assorted ones included."""
        return self.fields + math.ceil((self.total_frames - self.frames) / self.frames_per_field)

    def frames_of(self, field_id: int) -> range:
        """Numbers of a field's frames."""
        if field_id < self.fields:
            first = field_id * self.frames_per_field
            return range(first, min(first + self.frames_per_field, self.frames))
        first = self.frames + (field_id - self.fields) * self.frames_per_field
        return range(first, min(first + self.frames_per_field, self.total_frames))


def read_magnifications(text: str) -> tuple[float, ...]:
    """Magnifications as they are typed: numbers, comma separated.

    Raises:
        ConfigError: one is no number.
    """
    try:
        return tuple(float(each) for each in text.split(","))
    except ValueError as error:
        raise ConfigError(f"magnifications {text!r}: numbers, comma separated") from error


@lru_cache(maxsize=4)
def _tests(spec: DatasetSpec) -> tuple[frozenset[int], frozenset[int]]:
    """Fields of the test grouped by field, and frames of the test by image as in the papers."""
    rng = np.random.default_rng([spec.seed, 6])
    fields = rng.permutation(spec.fields)[: round(spec.fields * spec.test_share)]
    images = rng.permutation(spec.frames)[: round(spec.frames * spec.test_share)]
    return frozenset(fields.tolist()), frozenset(images.tolist())


@dataclass(frozen=True, slots=True)
class _FieldPlan:
    """Plan of one field of the dataset."""

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
        progress: True where to show a progress bar.

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
        shown = bar.add_task("frames", total=spec.total_frames)
        pending = [pool.submit(_build_fields, spec, task, images_path) for task in tasks]
        try:
            for done in as_completed(pending):
                rows.extend(done.result())
                bar.advance(shown, len(done.result()))
        except BaseException:
            # Ctrl+C or a failed worker: do not go on filling a dataset that will not be finished.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    rows.sort(key=lambda row: int(row["index"]))
    (directory / SPEC_NAME).write_text(json.dumps(asdict(spec), indent=2) + "\n", encoding="utf-8")
    write_table(directory, rows)
    return directory


def _plan(spec: DatasetSpec, field_id: int) -> _FieldPlan:
    """Plan one field, independently of all others, so that workers need not communicate."""
    rng = np.random.default_rng([spec.seed, field_id, 5])
    if field_id >= spec.fields:
        # Without beads nothing is drawn for them: datasets made before come out as they did.
        is_beads = spec.beads_share > 0.0 and rng.uniform() < spec.beads_share
        sample: Sample = "beads" if is_beads else "assorted"
        magnification = float(np.exp(rng.uniform(np.log(400.0), np.log(12000.0))))
    else:
        sample = "tinball" if field_id % 2 == 0 else "grid"
        magnification = spec.magnifications[(field_id // 2) % len(spec.magnifications)]
    # Labels come in runs of a random permutation; a repeated label becomes an exposure variant of the same
    # blur.
    labels = list(rng.permutation(np.arange(1, 11)))
    chosen: list[int] = []
    count = len(spec.frames_of(field_id))
    while len(chosen) < count:
        chosen += [int(labels[len(chosen) % 10])] * (2 if rng.uniform() < 0.2 else 1)
    return _FieldPlan(
        field_id=field_id,
        sample=sample,
        magnification=magnification,
        split="test" if field_id in _tests(spec)[0] else "train",
        seed=int(rng.integers(0, 2**62)),
        hollow=_hollow(spec, rng),
        labels=tuple(chosen[:count]),
    )


def _hollow(spec: DatasetSpec, rng: np.random.Generator) -> HollowPolicy:
    if rng.uniform() < spec.hollow_share:
        return "allow"
    # Without empty fields nothing is drawn for them: datasets made before come out as they did.
    return "force" if spec.empty_share > 0.0 and rng.uniform() < spec.empty_share else "avoid"


def _build_fields(spec: DatasetSpec, field_ids: list[int], images_path: Path) -> list[Row]:
    """Make the frames of some fields in a worker process; images go to the file, rows come back."""
    cv2.setNumThreads(1)
    images = np.load(images_path, mmap_mode="r+", allow_pickle=False)
    rows: list[Row] = []
    for field_id in field_ids:
        plan = _plan(spec, field_id)
        frames = labelled_frames(
            plan.sample,
            plan.magnification,
            plan.seed,
            list(plan.labels),
            plan.hollow,
            RareFrameShares(spec.zero_share, spec.far_share, spec.smoothed_share),
        )
        expert = np.random.default_rng([spec.seed, field_id, 7])
        for index, frame in zip(spec.frames_of(field_id), frames, strict=True):
            images[index] = frame.image
            opinion = frame.truth.true_score + spec.label_noise * float(expert.standard_normal())
            rows.append(_row(index, plan, frame, index in _tests(spec)[1], opinion))
    return rows


def _row(index: int, plan: _FieldPlan, frame: LabelledFrame, image_test: bool, opinion: float) -> Row:
    """Row of the table; an empty frame gets its label without an expert's error."""
    truth = frame.truth
    label = min(max(round(opinion), 1), 10) if truth.label else 0
    return {
        "index": index,
        "field_id": plan.field_id,
        "split": plan.split,
        "image_split": "test" if image_test else "train",
        "sample": plan.sample,
        "magnification": round(plan.magnification, 1),
        "label": label,
        "score": round(truth.true_score, 4),
        "quality": round(truth.quality, 4),
        "recognisability": round(truth.recognisability, 4),
        "variant": frame.variant,
        "blur_px": round(truth.blur_px, 3),
        "focus_wd_mm": round(frame.focus_wd_mm, 4),
        "wd_mm": round(frame.focus_wd_mm + truth.wd_error_mm, 4),
        "brightness_contrast_ok": int(truth.brightness_contrast_ok),
    }
