"""The whole of `semd calibrate`: sweep, label, keep, learn, and replace the weights only if that helped."""

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
        out: models folder that the new weights go to, if they are better.
        sweeps: dataset of sweeps; made, or added to.
        data: dataset that must not be forgotten, or None.
        plan: of the sweep.
        spot_nm: width of the focused beam (full width at half maximum), the least blur. A sweep cannot tell it from
            the sample's own softness, so it is taken as known.
        held_out: share of a sweep's frames that are not learned from.
        steps: of the fine-tuning.
        seed: of the draw of these frames, and of the fine-tuning.
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
        """Refuse what cannot be done.

        Raises:
            ConfigError: a share or width out of range.
        """
        if not 0.0 < self.held_out < 1.0 or not self.spot_nm >= 0.0:
            raise ConfigError(f"held_out must lie within 0..1 and the spot must not be negative: {self}")


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """Result of a calibration.

    Attributes:
        focus_wd_mm: the consensus focus; the working distance stands there now.
        disagreement_mm: of the sharpness metrics.
        frames: frames of this sweep that were kept.
        fine_tuning: before and after.
        stored: True where the new weights lie in the models folder.
    """

    focus_wd_mm: float
    disagreement_mm: float
    frames: int
    fine_tuning: FineTuningResult
    stored: bool

    def as_json(self) -> dict[str, object]:
        """The figures for a last line of standard output."""
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
    """Calibrate the scoring machine to the instrument that a configuration describes.

    The daemon must not run; the Middle Client must. The new weights are stored only if the RMSE on the frames kept
    aside fell, and that on the dataset's test rose by no more than `MAX_RMSE_RISE`.

    Args:
        config: of the instrument.
        spec: what to do.
        show: told of every step in a line.
        progress: True where to show progress bars.

    Raises:
        CalibrationError: no focus found, or the instrument does not obey.
        ConfigError, DatasetError, ModelError, StorageError, LedgerError: something is not as it must be; says what.
        KeyboardInterrupt: Ctrl+C during the sweep; the working distance is back at its start.
    """
    if config.watch.width_px < WIDTH_PX or config.watch.height_px < HEIGHT_PX:
        raise ConfigError(f"[watch] width_px, height_px: a sweep needs frames of {WIDTH_PX}x{HEIGHT_PX} or more")
    models = config.models.directory or default_directory()
    scorer, actor = load_model(models, "scorer"), load_model(models, "actor")
    torch.set_num_threads(config.scoring.threads)
    network = network_from_bytes(scorer.data)
    # What is wrong with these is better said before the sweep than after it.
    data = read_dataset(spec.data) if spec.data is not None else None
    known = (spec.sweeps / TABLE_NAME).exists()
    if known:
        read_dataset(spec.sweeps)
    pipeline = Pipeline(
        scorer=Scorer(network),
        policy=_stay,
        rules=config.rules(n_frames=1, rho=1.0),
        models_digest=models_digest(models),
    )
    with open_instrument(config, pipeline) as instrument:
        sweep = run_sweep(instrument, pipeline.rules, spec.plan, show)
    focus = sweep.consensus
    show(f"focus at WD {focus.wd_mm:.4f} mm, the metrics agree within {focus.disagreement_mm * 1e3:.1f} um")
    rows = keep_sweep(sweep, pipeline.rules.optics or Optics(), spec, append=known)
    show(f"{len(rows)} labelled frames in {spec.sweeps}")
    plan = LearningPlan(FineTuning(steps=spec.steps, seed=spec.seed))
    fine_tuning = learn_from_sweeps(network, read_dataset(spec.sweeps), data, plan, progress=progress)
    if fine_tuning.helped:
        store_fine_tuning(spec.out, scorer, actor, fine_tuning, spec)
    return CalibrationResult(focus.wd_mm, focus.disagreement_mm, len(rows), fine_tuning, fine_tuning.helped)


def keep_sweep(sweep: Sweep, optics: Optics, spec: CalibrationSpec, *, append: bool) -> NDArray[np.int64]:
    """Label a sweep's frames and add them to the dataset of sweeps; returns their rows.

    The frames are of one field, which lies on the side of the training; those kept aside are drawn by image.

    Raises:
        CalibrationError: hardly a frame in which anything can be recognised.
        DatasetError: the dataset is of frames of another size.
        StorageError: it cannot be written.
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
        aside = round(len(facts) * spec.held_out)
        if aside < 1 or aside == len(facts):
            raise CalibrationError(f"{len(facts)} recognisable frames are too few to learn from and to keep some aside")
        drawn = set(np.random.default_rng([spec.seed, 53]).permutation(len(facts))[:aside].tolist())
        splits = Splits(
            by_field=("train",) * len(facts),
            by_image=tuple("test" if k in drawn else "train" for k in range(len(facts))),
        )
        origin = {"command": "semd calibrate", "spot_nm": spec.spot_nm, "seed": spec.seed}
        return writer.finish(facts, splits, origin)


def store_fine_tuning(
    out: Path, scorer: StoredModel, actor: StoredModel, fine_tuning: FineTuningResult, spec: CalibrationSpec
) -> None:
    """Make `out` a complete models folder with the new weights; the scorer comes last.

    Raises:
        StorageError: it cannot be written.
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
