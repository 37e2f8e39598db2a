"""Training the scoring machine: loss (1) of the paper, resumable, with a curve and a progress bar."""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import math
import shutil
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from semd.datasets.dataset import LabelledFrames, read_dataset, read_datasets
from semd.errors import TrainingError
from semd.scoring.network import ScoringNetwork, lay_out_channels_last, with_spectrum
from semd.scoring.preprocess import standardise
from semd.scoring.spectrum import log_spectrum
from semd.scoring.stored import network_from_bytes, network_to_bytes
from semd.training.score.batches import batches
from semd.training.score.finishing import finish
from semd.training.score.losses import expected_error_loss, rmse_loss
from semd.training.score.process_group import (
    SINGLE_PROCESS,
    ProcessGroup,
    start_process_group,
    stop_process_group,
    torchrun_process_group,
)
from semd.training.score.score_checkpoint import TrainingProgress, load_checkpoint, save_checkpoint
from semd.training.score.validation import ScoringReport, predict, report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from semd.training.score.score_settings import ScoreTrainingConfig

BEST_NAME = "best.safetensors"
WEIGHTS_NAME = "scorer.safetensors"
CURVE_NAME = "curve.csv"
REPORT_NAME = "report.json"
FEATURE_CACHE_NAME = "seen"
CURVE_COLUMNS = (
    "epoch",
    "height_px",
    "train_rmse",
    "validation_rmse",
    "validation_rmse_score",
    "sharp_mean",
    "soft_accepted",
    "rate",
)
# Steps between two averagings of the weights over the process group.
_STEPS_APART = 8
_SCALE_FRAMES = 512


@dataclass(frozen=True, slots=True)
class ScoreTrainingResult:
    """Result of a training.

    Attributes:
        finished: False when it was interrupted; it goes on from the last epoch when called again.
        epochs: epochs done.
        weights: file with the weights, half precision safetensors; None before the first epoch is through.
        report: figures on all frames of the grouped test; None when interrupted.
    """

    finished: bool
    epochs: int
    weights: Path | None
    report: ScoringReport | None


def train_scorer(
    config: ScoreTrainingConfig,
    dataset_dirs: Sequence[Path],
    run_dir: Path,
    *,
    start: Path | None = None,
    validation_dir: Path | None = None,
    progress: bool = True,
    processes: int = 1,
) -> ScoreTrainingResult:
    """Train on a dataset, or go on with a training that was interrupted or killed.

    Args:
        config: the training.
        dataset_dirs: finished datasets, taken together.
        run_dir: where checkpoint, curve, weights and report go; created. What is there already is continued.
        start: weights to go on from, of the same form; None draws new ones at random.
        validation_dir: the validation set, on which epochs are compared and the uncertainty is calibrated; None holds
            out fields of `dataset_dirs`. Must not contain frames that `start` was trained on.
        progress: True where to show a progress bar.
        processes: processes that share the frames, see `process_group`; the outcome depends on their number. Under
            torchrun its processes are taken instead.

    Raises:
        DatasetError: the dataset is missing or malformed.
        TrainingError: the directory holds another configuration's checkpoint, the loss is not finite, the weights
            to start from are of another form, or `processes` is below 1.
        ModelError: the weights to start from are damaged.
    """
    if processes < 1:
        raise TrainingError(f"processes must be at least 1, not {processes}")
    if start is not None:
        config = replace(config, start_sha256=hashlib.sha256(start.read_bytes()).hexdigest())
    launched = torchrun_process_group()
    if launched is not None:
        return _train(config, dataset_dirs, run_dir, start, validation_dir, progress and launched.is_main, launched)
    if processes == 1:
        return _train(config, dataset_dirs, run_dir, start, validation_dir, progress, SINGLE_PROCESS)
    run_dir.mkdir(parents=True, exist_ok=True)
    rendezvous_file = run_dir / "meeting"
    rendezvous_file.unlink(missing_ok=True)
    group, workers = start_process_group(
        processes, rendezvous_file, _train, (config, dataset_dirs, run_dir, start, validation_dir, False)
    )
    try:
        return _train(config, dataset_dirs, run_dir, start, validation_dir, progress, group)
    finally:
        stop_process_group(workers)
        rendezvous_file.unlink(missing_ok=True)


def _train(
    config: ScoreTrainingConfig,
    dataset_dirs: Sequence[Path],
    run_dir: Path,
    start: Path | None,
    validation_dir: Path | None,
    progress: bool,
    group: ProcessGroup,
) -> ScoreTrainingResult:
    """Train as one rank of a process group."""
    torch.set_num_threads(config.threads)
    frames = read_datasets([*dataset_dirs, *([validation_dir] if validation_dir is not None else [])])
    train_rows, validation_rows, test_rows = _split_rows(
        frames, len(read_dataset(validation_dir)) if validation_dir is not None else 0, config
    )
    if not len(train_rows) or not len(test_rows):
        raise TrainingError(f"{', '.join(map(str, dataset_dirs))}: frames on both sides of the split are needed")
    # Several processes would fight for one accelerator.
    device = torch.device("cuda" if torch.cuda.is_available() and group.size == 1 else "cpu")
    run_dir.mkdir(parents=True, exist_ok=True)
    network = _first_network(config, start, frames, train_rows)
    lay_out_channels_last(network).to(device)
    averaged = copy.deepcopy(network)
    optimiser = _make_optimiser(config, network)
    done = load_checkpoint(run_dir, config, network, averaged, optimiser) or TrainingProgress(0, math.inf, 0)
    if not config.stages:
        _write_weights(run_dir / BEST_NAME, averaged)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with ProgressBar(*columns, disable=not progress) as bar:
            for epoch in range(done.epoch, config.epochs):
                if config.patience and done.epochs_without_gain >= config.patience:
                    break
                task = bar.add_task(f"epoch {epoch + 1}/{config.epochs}", total=len(train_rows))
                advance = partial(bar.advance, task)
                loss = _run_epoch(config, epoch, group, network, averaged, optimiser, frames, train_rows, advance)
                if not group.is_main:
                    done = group.receive()
                    continue
                figures = report(frames, validation_rows, predict(averaged, frames, validation_rows, bf16=config.bf16))
                bar.remove_task(task)
                errors = f"train {loss:.3f}, validation {figures.rmse:.3f}, sharp {figures.sharp_mean:.2f}"
                bar.console.print(f"epoch {epoch + 1}: {errors}")
                _add_to_curve(run_dir / CURVE_NAME, epoch, config, loss, figures)
                done = group.broadcast(done.after_epoch(figures.rmse_score))
                if not done.epochs_without_gain:
                    _write_weights(run_dir / BEST_NAME, averaged)
                save_checkpoint(run_dir, config, done, network.state_dict(), averaged.state_dict(), optimiser)
    except KeyboardInterrupt:
        return ScoreTrainingResult(False, done.epoch, run_dir / BEST_NAME if done.epoch else None, None)
    if not group.is_main:
        return ScoreTrainingResult(True, done.epoch, None, None)
    # The other ranks have finished: their threads are free.
    torch.set_num_threads(config.threads * group.size)
    best = network_from_bytes((run_dir / BEST_NAME).read_bytes()).to(device)
    feature_cache = run_dir / FEATURE_CACHE_NAME
    try:
        best = finish(best, frames, train_rows, validation_rows, feature_cache, config, progress=progress)
        _write_weights(run_dir / WEIGHTS_NAME, best)
        final = report(frames, test_rows, predict(best, frames, test_rows))
    except KeyboardInterrupt:
        return ScoreTrainingResult(False, done.epoch, run_dir / BEST_NAME, None)
    (run_dir / REPORT_NAME).write_text(json.dumps(asdict(final), indent=2) + "\n", encoding="utf-8")
    # Last of all: a run that is interrupted before resumes from the cache.
    shutil.rmtree(feature_cache)
    return ScoreTrainingResult(True, done.epoch, run_dir / WEIGHTS_NAME, final)


def _first_network(
    config: ScoreTrainingConfig, start: Path | None, frames: LabelledFrames, rows: NDArray[np.int64]
) -> ScoringNetwork:
    if start is None:
        if not config.stages:
            raise TrainingError("a training without epochs needs weights to start from")
        # torch draws initial weights from its own global stream; put it back afterwards.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            return _fit_spectrum_scale(ScoringNetwork(config.architecture), frames, rows)
    network = network_from_bytes(start.read_bytes())
    if replace(network.architecture, spectrum=config.architecture.spectrum) != config.architecture:
        raise TrainingError(f"{start} holds a network of another form: {network.architecture}")
    if network.architecture == config.architecture:
        return network
    if network.architecture.spectrum:
        raise TrainingError(f"{start} holds a network that reads the spectrum, which this one does not")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return _fit_spectrum_scale(with_spectrum(network), frames, rows)


def _fit_spectrum_scale(network: ScoringNetwork, frames: LabelledFrames, rows: NDArray[np.int64]) -> ScoringNetwork:
    """Fit the standardisation of the spectra to a sample of the training frames; returns the network."""
    if network.spectrum is not None:
        some = rows[np.linspace(0, len(rows) - 1, min(len(rows), _SCALE_FRAMES)).astype(np.int64)]
        pictures = [standardise(frames.images[row])[None, None] for row in some]
        network.spectrum.fit(torch.cat([log_spectrum(torch.from_numpy(picture)) for picture in pictures]))
    return network


def _split_rows(
    frames: LabelledFrames, n_validation: int, config: ScoreTrainingConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the training, validation and test set; the last `n_validation` frames, if any, are the validation set."""
    if not n_validation:
        return (*split_validation(frames, config.validation_fields, config.seed), frames.rows("test"))
    known = len(frames) - n_validation
    train, test = (rows[rows < known] for rows in (frames.rows("train"), frames.rows("test")))
    return train, np.arange(known, len(frames)), test


def split_validation(frames: LabelledFrames, fields: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to train on, and rows of whole fields held out from them: at most `fields`, at most a tenth.

    With none held out, the training rows serve as the validation set.
    """
    rows = frames.rows("train")
    wanted = rows[~frames.is_other_surface[rows]]
    known = np.unique(frames.field_id[wanted])
    count = min(fields, max(len(known) // 10, min(len(known) - 1, 1)))
    held_out = np.random.default_rng([seed, 43]).permutation(known)[:count]
    is_held_out = np.isin(frames.field_id[rows], held_out)
    return (rows[~is_held_out], rows[is_held_out]) if count > 0 else (rows, rows)


def rate_at(config: ScoreTrainingConfig, share_done: float) -> float:
    """Learning rate after a share (0..1) of the run: constant for SGD, one cycle for AdamW."""
    if config.optimiser == "sgd":
        return config.learning_rate
    if share_done < config.warm_up:
        return config.learning_rate * (0.05 + 0.95 * share_done / config.warm_up)
    fallen = (share_done - config.warm_up) / max(1.0 - config.warm_up, 1e-9)
    return config.learning_rate * (0.002 + 0.998 * 0.5 * (1.0 + math.cos(math.pi * min(fallen, 1.0))))


def _make_optimiser(config: ScoreTrainingConfig, network: ScoringNetwork) -> torch.optim.Optimizer:
    parameters = list(network.parameters())
    if config.optimiser == "sgd":
        return torch.optim.SGD(parameters, lr=config.learning_rate, momentum=config.momentum)
    # Shrinking gains and biases only hurts; decay is for the matrices.
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def _run_epoch(
    config: ScoreTrainingConfig,
    epoch: int,
    group: ProcessGroup,
    network: ScoringNetwork,
    averaged: ScoringNetwork,
    optimiser: torch.optim.Optimizer,
    frames: LabelledFrames,
    train_rows: NDArray[np.int64],
    advance: Callable[[float], None],
) -> float:
    """One epoch over the training frames; its loss. All that is random in it follows from seed and epoch."""
    stage = config.stage_of(epoch)
    network.train(config.batch_statistics)
    device = next(network.parameters()).device
    losses: list[float] = []
    steps = math.ceil(len(train_rows) / (stage.batch * group.size))
    for step, batch in enumerate(batches(config, epoch, group, stage, frames, train_rows)):
        rate = rate_at(config, (epoch + step / steps) / config.epochs)
        for parameters in optimiser.param_groups:
            parameters["lr"] = rate
        part = batch.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
            answers = network(part.images, part.magnification)
        error = rmse_loss(answers.scores, part.target, part.weight)
        value = float(error.detach())
        if not math.isfinite(value):
            raise TrainingError(f"the loss became {value} in epoch {epoch + 1}, step {step}; lower the learning rate")
        optimiser.zero_grad(set_to_none=True)
        (error + expected_error_loss(answers, part.target)).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        if step % _STEPS_APART == _STEPS_APART - 1:
            group.average_weights(network)
        _average(averaged, network, min(config.ema_decay, (1 + epoch * steps + step) / (10 + epoch * steps + step)))
        losses.append(value)
        advance(float(len(batch.target) * group.size))
    group.average_weights(network)
    return float(np.sqrt(np.mean(np.square(losses))))


@torch.no_grad()
def _average(averaged: ScoringNetwork, network: ScoringNetwork, decay: float) -> None:
    """Move the averaged weights towards the present ones (decay 0 copies them)."""
    pairs = list(zip(averaged.state_dict().values(), network.state_dict().values(), strict=True))
    moving = [pair for pair in pairs if pair[0].is_floating_point()]
    torch._foreach_lerp_([old for old, _ in moving], [new for _, new in moving], 1.0 - decay)
    for old, new in pairs:
        if not old.is_floating_point():
            old.copy_(new)


def _write_weights(path: Path, network: ScoringNetwork) -> None:
    unfinished = path.with_suffix(".partial")
    unfinished.write_bytes(network_to_bytes(network))
    unfinished.replace(path)


def _add_to_curve(path: Path, epoch: int, config: ScoreTrainingConfig, loss: float, figures: ScoringReport) -> None:
    fresh = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(CURVE_COLUMNS)
        numbers = (loss, figures.rmse, figures.rmse_score, figures.sharp_mean, figures.soft_accepted)
        rate = rate_at(config, (epoch + 1) / config.epochs)
        writer.writerow([epoch + 1, config.stage_of(epoch).height_px, *(f"{n:.4f}" for n in numbers), f"{rate:.3g}"])
