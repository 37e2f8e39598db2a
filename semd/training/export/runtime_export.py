"""`semd model export`: an exported model beside the scorer's weights, calibrated and verified on labelled frames."""

from __future__ import annotations

import math
import os
import platform
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semd import __version__
from semd.datasets.dataset import LabelledFrames, read_dataset
from semd.datasets.simulated import DatasetSpec, build_dataset
from semd.errors import DatasetError, StorageError
from semd.model_store import load_model, store_runtime
from semd.scoring.runtime.extra import import_onnx, import_onnxruntime
from semd.scoring.stored import network_from_bytes
from semd.training.export.agreement import FrameSubset
from semd.training.export.onnx_export import BOUNDS, Attempt, export_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from semd.model_store import ExportedRuntime, RuntimeEntry
    from semd.training.export.agreement import Track

# Large enough a share for the test that few simulated frames are made in vain: of the frames, 0.6 are in the test
# grouped by field, and 0.4 * 0.4 in neither test, that is, in the training.
_TEST_SHARE = 0.6
_SPARE_FRAMES = 36


@dataclass(frozen=True, slots=True)
class ExportFrames:
    """Frames that an export is calibrated and verified with.

    Attributes:
        data: a dataset; None to simulate one.
        calibration: number of training frames that int8 takes its scales from.
        verification: number of test frames on which scores are compared.
        seed: of the choice, and of the simulation.
        workers: processes of the simulation.
    """

    data: Path | None = None
    calibration: int = 256
    verification: int = 1000
    seed: int = 0
    workers: int = 2


def export_scorer(directory: Path, runtime: ExportedRuntime, asked: ExportFrames, track: Track) -> RuntimeEntry:
    """Export the scorer of a models folder and enter it in the manifest.

    Args:
        directory: the models folder.
        runtime: how the exported model computes.
        asked: frames to calibrate and to verify with.
        track: hands numbers through and shows progress.

    Returns:
        The manifest's new entry.

    Raises:
        ModelError: the scorer cannot be read, the extra is missing, or the export misses its bound; nothing is written.
        StorageError: the models folder cannot be written.
        DatasetError: the dataset cannot be read or holds too few frames.
    """
    # All that can be known at once is said before the minutes of work.
    import_onnx()
    import_onnxruntime()
    stored = load_model(directory, "scorer")
    if not os.access(directory, os.W_OK):
        raise StorageError(
            f"{directory}: cannot be written; copy it to where you may write, export with --models COPY "
            "and set [models] directory to it"
        )
    network = network_from_bytes(stored.data)
    with _frames(asked) as frames:
        calibration = _choose(frames, "train", asked.calibration, asked.seed)
        verification = _choose(frames, "test", asked.verification, asked.seed)
        export = export_runtime(network, runtime, calibration, verification, track)
    entry = {
        "scorer_sha256": stored.entry.sha256,
        "made": {
            "command": f"semd model export --runtime {runtime} --frames {asked.verification} --seed {asked.seed}",
            "data": asked.data.name if asked.data is not None else "simulated for it",
            "calibration_frames": asked.calibration if runtime == "int8" else 0,
            "recipe": export.attempts[-1].recipe,
            "semd": __version__,
            "onnxruntime": version("onnxruntime"),
            "processor": platform.processor() or platform.machine(),
        },
        "figures": {"bound": BOUNDS[runtime], **_figures(export.attempts)},
    }
    return store_runtime(directory, runtime, export.model, entry)


def _figures(attempts: tuple[Attempt, ...]) -> dict[str, Any]:
    missed = {attempt.recipe: attempt.agreement.largest for attempt in attempts[:-1]}
    return {"against_eager_torch": asdict(attempts[-1].agreement), "recipes_that_missed": missed}


@contextmanager
def _frames(asked: ExportFrames) -> Iterator[LabelledFrames]:
    if asked.data is not None:
        yield read_dataset(asked.data)
        return
    needed = max(asked.verification / _TEST_SHARE, asked.calibration / (1.0 - _TEST_SHARE) ** 2)
    spec = DatasetSpec(
        frames=math.ceil(needed) + _SPARE_FRAMES, assorted_share=0.0, test_share=_TEST_SHARE, seed=asked.seed
    )
    with tempfile.TemporaryDirectory(prefix="semd-export-") as name:
        yield read_dataset(build_dataset(spec, Path(name), asked.workers))


def _choose(frames: LabelledFrames, split: str, count: int, seed: int) -> FrameSubset:
    rows = frames.rows(split)
    if len(rows) < count:
        raise DatasetError(
            f"the dataset holds {len(rows)} {split} frames, {count} are needed; "
            "leave --data out to simulate some, or ask for fewer"
        )
    chosen = np.sort(np.random.default_rng([seed, len(rows)]).choice(rows, count, replace=False))
    return FrameSubset(frames.images, frames.magnification, chosen)
