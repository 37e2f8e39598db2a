"""`semd train sweep`: the control machine trained for every combination of settings, each a task of Ray's."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from semd.errors import SemdError, TrainingError
from semd.reporting.table import Column, TextTable
from semd.training.control.control_checkpoint import has_checkpoint
from semd.training.control.control_settings import ControlTrainingConfig
from semd.training.control.control_training import CURVE, train_control
from semd.training.control.ray_cluster import cluster
from semd.training.control.sweep_plan import Trial
from semd.training.control.twin_environment import make_evaluation, make_twin

RESULT, TABLE = "result.json", "sweep.csv"
FIGURES = ("success_25", "true_success_25", "median_frames", "p90_frames")
_POLL_S = 2.0


@dataclass(frozen=True, slots=True)
class TrialResult:
    """Result of one training of a sweep.

    Attributes:
        trial: what was trained.
        figures: of the best weights on the twin, as in `ControlFigures`; None where it failed.
        failure: why it did.
    """

    trial: Trial
    figures: dict[str, Any] | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class SweepResult:
    """All trainings, the best first, those that failed last.

    Attributes:
        ended: the trainings.
        skipped: how many of them had been finished before.
    """

    ended: tuple[TrialResult, ...]
    skipped: int

    @property
    def failed(self) -> int:
        """Number of failed trainings."""
        return sum(each.figures is None for each in self.ended)

    def rows(self) -> list[dict[str, Any]]:
        """Rows of the table: settings, figures, name of the run folder, and the reason of a failure."""
        return [
            {
                **each.trial.swept,
                **{name: None if each.figures is None else each.figures[name] for name in FIGURES},
                "run": each.trial.name,
                "failure": each.failure,
            }
            for each in self.ended
        ]

    def as_text(self) -> str:
        """A table for a terminal."""
        if not self.ended:
            return "nothing has ended"
        names = [*self.ended[0].trial.swept, *FIGURES]
        return TextTable(
            columns=(*(Column(name) for name in names), Column(align="left")),
            rows=tuple((*(_shown(row[name]) for name in names), row["failure"]) for row in self.rows()),
            notes=(f"{len(self.ended)} trainings, {self.skipped} of them finished before, {self.failed} failed",),
        ).as_text()

    def as_json(self) -> dict[str, object]:
        """The same for a program."""
        return {"runs": self.rows(), "skipped": self.skipped, "failed": self.failed}

    def save(self, directory: Path) -> None:
        """Write `sweep.csv`; missing figures stay empty."""
        rows = self.rows()
        with (directory / TABLE).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]) if rows else ["run"])
            writer.writeheader()
            writer.writerows(rows)


def train_sweep(
    trials: Sequence[Trial],
    directory: Path,
    *,
    workers: int,
    address: str | None = None,
    console: Console | None = None,
) -> SweepResult:
    """Train all combinations, one for each processor of the cluster at a time, and write the table.

    Trainings that were finished before are not done again, one that broke off goes on from its checkpoint. Ctrl+C
    leaves the table of those that have ended.

    Args:
        trials: what to train.
        directory: holds a run folder for each; all machines of the cluster must see it under this path.
        workers: processes, where no address is given.
        address: of a running Ray cluster.
        console: where the progress bar goes; None for standard error.

    Raises:
        TrainingError: Ray is not installed, or its cluster cannot be reached.
        OSError: the directory cannot be written.
    """
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    before = [
        TrialResult(trial, known) for trial in trials if (known := _finished(trial.config, directory / trial.name))
    ]
    names = {each.trial.name for each in before}
    left = [trial for trial in trials if trial.name not in names]
    ended = list(before)
    try:
        if left:
            with cluster(workers, address) as ray:
                _train_all(ray, left, directory, ended, console or Console(stderr=True))
    finally:
        findings = SweepResult(tuple(sorted(ended, key=_sort_key)), len(before))
        findings.save(directory)
    return findings


def train_trial(config: ControlTrainingConfig, run_dir: Path) -> None:
    """Train one combination to its end, from its checkpoint if there is one, and leave `result.json`.

    Raises:
        TrainingError: see `train_control`.
    """
    result = train_control(
        config,
        make_twin(config),
        make_evaluation(config),
        run_dir,
        resume=has_checkpoint(run_dir),
        console=Console(quiet=True),
    )
    found = {"settings": asdict(config), "frames": result.frames, "figures": asdict(result.best)}
    temporary = run_dir / f"{RESULT}.tmp"
    temporary.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    temporary.replace(run_dir / RESULT)


def _task(config: ControlTrainingConfig, run_dir: str) -> str:
    """Train in a worker; returns the reason that the training failed, or nothing."""
    try:
        train_trial(config, Path(run_dir))
    except (SemdError, OSError) as error:
        return str(error)
    return ""


def _train_all(ray: Any, trials: Sequence[Trial], directory: Path, ended: list[TrialResult], console: Console) -> None:
    """Add every training to `ended` as it ends."""
    remote = ray.remote(_task)
    pending = {
        remote.options(num_cpus=trial.config.threads, name=trial.name).remote(
            trial.config, str(directory / trial.name)
        ): trial
        for trial in trials
    }
    total = sum(trial.config.max_frames for trial in trials)
    with Progress(
        TextColumn("sweep"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames"),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        bar = progress.add_task("sweep", total=total)
        while pending:
            done, _ = ray.wait(list(pending), timeout=_POLL_S)
            ended.extend(_collect(ray, each, pending.pop(each), directory) for each in done)
            left = sum(
                max(0, trial.config.max_frames - _frames_taken(directory / trial.name)) for trial in pending.values()
            )
            progress.update(bar, completed=total - left)


def _collect(ray: Any, reference: Any, trial: Trial, directory: Path) -> TrialResult:
    try:
        failure = ray.get(reference)
    except ray.exceptions.RayError as error:
        # One lost worker must not cost the others' results.
        return TrialResult(trial, failure=f"the worker ended: {str(error).strip().splitlines()[-1]}")
    if failure:
        return TrialResult(trial, failure=failure)
    figures = _finished(trial.config, directory / trial.name)
    if figures is None:
        raise TrainingError(
            f"{directory / trial.name} was trained but cannot be found here: --run must be a folder that all "
            "machines of the cluster share"
        )
    return TrialResult(trial, figures)


def _finished(config: ControlTrainingConfig, run_dir: Path) -> dict[str, Any] | None:
    """Figures of a training that came to its end with these very settings."""
    path = run_dir / RESULT
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        settings, figures = found["settings"], dict(found["figures"])
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path}: not a sweep's result ({error}); remove the run folder to train anew") from error
    return figures if settings == json.loads(json.dumps(asdict(config))) else None


def _frames_taken(run_dir: Path) -> int:
    """Frames taken, by the last whole row of the curve."""
    try:
        rows = (run_dir / CURVE).read_text(encoding="utf-8").splitlines()
        return int(rows[-1].split(",")[0])
    except (OSError, ValueError, IndexError):
        return 0


def _sort_key(ended: TrialResult) -> tuple[float, ...]:
    """Sorts the best first: by true success, success, then few frames."""
    if ended.figures is None:
        return (1.0,)
    frames = [float("inf") if (value := ended.figures[name]) is None else value for name in FIGURES[2:]]
    return (0.0, -ended.figures["true_success_25"], -ended.figures["success_25"], *frames)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
