"""`semd calibrate`: sweep the focus, label the frames, fine-tune, and store the weights if they are better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from semd.calibration.focus_sweep import Sweep, SweepPlan, run_sweep
from semd.calibration.instrument_driver import open_instrument
from semd.calibration.labels import defocus_blur_px, defocus_score, is_recognisable, least_blur_px
from semd.calibration.learning import FineTuningResult, LearningPlan, learn_from_sweeps
from semd.config import Config
from semd.datasets.dataset import TABLE_NAME, read_dataset
from semd.datasets.dataset_writer import HEIGHT_PX, WIDTH_PX, DatasetWriter, FrameFacts, Splits
from semd.domain.axes import Axis
from semd.domain.limits import Optics
from semd.errors import CalibrationError, ConfigError
from semd.model_store import StoredModel, default_directory, load_model, models_digest, store_model
from semd.pipeline import Pipeline
from semd.scoring.preprocess import centre_crop
from semd.scoring.scorer import Scorer
from semd.scoring.stored import network_from_bytes
from semd.training.score.finetune import FineTuning


@dataclass(frozen=True, slots=True)
class CalibrationSpec:
    """A calibration.

    Attributes:
        out: models folder for the new weights, written if they are better.
        sweeps: dataset of sweeps; created or extended.
        data: dataset whose accuracy must be kept, or None.
        plan: reach and step of the sweep.
        spot_nm: width of the focused beam (full width at half maximum), the smallest blur. It is taken as known, since
            a sweep cannot separate it from soft detail of the sample.
        held_out: share of a sweep's frames in the hold-out set.
        steps: steps of the fine-tuning.
        seed: seed of the hold-out set and of the fine-tuning.
    """

    out: Path
    sweeps: Path
    data: Path | None = None
    plan: SweepPlan = field(default_factory=SweepPlan)
    spot_nm: float = 25.0
    held_out: float = 0.3
    steps: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: `held_out` or `spot_nm` is out of range.
        """
        if not 0.0 < self.held_out < 1.0 or not self.spot_nm >= 0.0:
            raise ConfigError(f"held_out must lie within 0..1 and the spot must not be negative: {self}")


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """Result of a calibration.

    Attributes:
        focus_wd_mm: consensus focus, to which the working distance has been moved.
        disagreement_mm: range of the foci of the sharpness metrics.
        frames: number of labelled frames of this sweep.
        fine_tuning: errors before and after the fine-tuning.
        stored: True if the new weights were stored in the models folder.
    """

    focus_wd_mm: float
    disagreement_mm: float
    frames: int
    fine_tuning: FineTuningResult
    stored: bool

    def as_json(self) -> dict[str, object]:
        """Return the figures for the last line of standard output."""
        fine_tuning = self.fine_tuning
        return {
            "stored": self.stored,
            "focus_wd_mm": round(self.focus_wd_mm, 5),
            "disagreement_mm": round(self.disagreement_mm, 5),
            "frames": self.frames,
            "learned": fine_tuning.learned,
            "held_out": fine_tuning.held_out,
            "sweep_rmse_before": round(fine_tuning.sweep_before, 4),
            "sweep_rmse_after": round(fine_tuning.sweep_after, 4),
            "data_rmse_before": None if fine_tuning.data_before is None else round(fine_tuning.data_before, 4),
            "data_rmse_after": None if fine_tuning.data_after is None else round(fine_tuning.data_after, 4),
            "unfamiliar": round(fine_tuning.unfamiliar, 4),
        }


def calibrate(
    config: Config, spec: CalibrationSpec, show: Callable[[str], None], *, progress: bool = True
) -> CalibrationResult:
    """Calibrate the scoring machine to the instrument of a configuration.

    The Middle Client must run and the daemon must not. The new weights are stored only if the RMSE on the hold-out set
    fell and the RMSE on the dataset's test frames rose by no more than `MAX_RMSE_RISE`.

    Args:
        config: configuration of the instrument.
        spec: settings of the calibration.
        show: called with one line of text for every step.
        progress: True to show progress bars.

    Raises:
        CalibrationError: no focus was found, or the instrument does not follow its commands.
        ConfigError, DatasetError, ModelError, StorageError, LedgerError: an input is not valid; the message says why.
        KeyboardInterrupt: Ctrl+C during the sweep; the working distance is back at its start.
    """
    if config.watch.width_px < WIDTH_PX or config.watch.height_px < HEIGHT_PX:
        raise ConfigError(f"[watch] width_px, height_px: a sweep needs frames of {WIDTH_PX}x{HEIGHT_PX} or more")
    models = config.models.directory or default_directory()
    scorer, actor = load_model(models, "scorer"), load_model(models, "actor")
    torch.set_num_threads(config.scoring.threads)
    network = network_from_bytes(scorer.data)
    # Read before the sweep, so that invalid datasets are reported first.
    data = read_dataset(spec.data) if spec.data is not None else None
    if known := (spec.sweeps / TABLE_NAME).exists():
        read_dataset(spec.sweeps)
    rules = config.rules(n_frames=1, rho=1.0)
    pipeline = Pipeline(Scorer(network), _stay, rules, models_digest(models))
    with open_instrument(config, pipeline) as instrument:
        sweep = run_sweep(instrument, rules, spec.plan, show)
    focus = sweep.consensus
    show(f"focus at WD {focus.wd_mm:.4f} mm, the metrics agree within {focus.disagreement_mm * 1e3:.1f} um")
    rows = label_sweep(sweep, rules.optics or Optics(), spec, append=known)
    show(f"{len(rows)} labelled frames in {spec.sweeps}")
    plan = LearningPlan(FineTuning(steps=spec.steps, seed=spec.seed))
    fine_tuning = learn_from_sweeps(network, read_dataset(spec.sweeps), data, plan, progress=progress)
    if fine_tuning.helped:
        store_fine_tuning(spec.out, scorer, actor, fine_tuning, spec)
    return CalibrationResult(focus.wd_mm, focus.disagreement_mm, len(rows), fine_tuning, fine_tuning.helped)


def label_sweep(sweep: Sweep, optics: Optics, spec: CalibrationSpec, *, append: bool) -> NDArray[np.int64]:
    """Label a sweep's frames and add them to the dataset of sweeps; return their rows, int64 (N,).

    All frames show one field, which belongs to the training split by field; the hold-out set is drawn by image.

    Raises:
        CalibrationError: too few recognisable frames.
        DatasetError: the dataset has frames of another size.
        StorageError: the dataset cannot be written.
    """
    least_px = least_blur_px(spec.spot_nm, sweep.pixel_mm)
    magnification = sweep.start.magnification
    facts = []
    with DatasetWriter(spec.sweeps, append=append) as writer:
        for frame in sweep.frames:
            if not is_recognisable(frame.image):
                continue
            defocus_mm = frame.wd_mm - sweep.consensus.wd_mm
            writer.add(centre_crop(frame.image, HEIGHT_PX, WIDTH_PX))
            facts.append(
                FrameFacts(
                    field="sweep",
                    magnification=magnification,
                    score=defocus_score(defocus_mm, magnification, optics, sweep.pixel_mm, least_px),
                    sample=sweep.start.sample or "real",
                    blur_px=defocus_blur_px(defocus_mm, optics, sweep.pixel_mm, least_px),
                    focus_wd_mm=sweep.consensus.wd_mm,
                    wd_mm=frame.wd_mm,
                )
            )
        held_out = round(len(facts) * spec.held_out)
        if held_out < 1 or held_out == len(facts):
            raise CalibrationError(f"{len(facts)} recognisable frames are too few for training and hold-out set")
        drawn = set(np.random.default_rng([spec.seed, 53]).permutation(len(facts))[:held_out].tolist())
        splits = Splits(
            by_field=("train",) * len(facts),
            by_image=tuple("test" if k in drawn else "train" for k in range(len(facts))),
        )
        origin = {"command": "semd calibrate", "spot_nm": spec.spot_nm, "seed": spec.seed}
        return writer.finish(facts, splits, origin)


def store_fine_tuning(
    out: Path, scorer: StoredModel, actor: StoredModel, fine_tuning: FineTuningResult, spec: CalibrationSpec
) -> None:
    """Write a complete models folder with the new weights to `out`; the scorer is written last.

    Raises:
        StorageError: the folder cannot be written.
    """
    store_model(out, "actor", actor.data, actor.entry.model_dump(exclude={"sha256"}))
    entry = scorer.entry.model_dump(exclude={"sha256"})
    entry["training"] = {
        "fine_tuned_from": scorer.entry.sha256,
        "before": scorer.entry.training,
        "sweep_frames": fine_tuning.learned,
        "steps": spec.steps,
        "seed": spec.seed,
    }
    entry["figures"] = {
        "command": "semd calibrate",
        "held_out_frames": fine_tuning.held_out,
        "sweep_rmse": [fine_tuning.sweep_before, fine_tuning.sweep_after],
        "data_rmse": [fine_tuning.data_before, fine_tuning.data_after],
    }
    store_model(out, "scorer", fine_tuning.weights, entry)


def _stay(_state: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.zeros(len(Axis), np.float32)
