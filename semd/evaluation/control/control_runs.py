"""Complete runs on the image simulator, played in parallel processes and stored as they end."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from semd.errors import ConfigError
from semd.evaluation.control.episode import Episode, run_episode
from semd.evaluation.control.table_one import simulator_rules
from semd.model_store import default_directory, models_digest
from semd.pipeline import Pipeline, load_pipeline
from semd.protocol.action import Status
from semd.simulator.field import Sample
from semd.simulator.grid import HollowPolicy
from semd.simulator.micrograph import micrograph_field
from semd.simulator.microscope import VirtualMicroscope

RUNS_FILE = "runs.jsonl"


@dataclass(frozen=True, slots=True)
class Cell:
    """Sample and magnification that runs are played on.

    Attributes:
        sample: kind of sample.
        magnification: magnification.
        hollow: placement of the field on a grid; `force` puts it into a hollow, featureless from about x3000.
        micrograph: file of a real micrograph used in place of the sample.
    """

    sample: Sample
    magnification: int
    hollow: HollowPolicy = "avoid"
    micrograph: Path | None = None

    @property
    def name(self) -> str:
        """Name in the tables."""
        if self.micrograph is not None:
            return self.micrograph.stem
        return "hollow" if self.hollow == "force" else self.sample

    def microscope(self, seed: int) -> VirtualMicroscope:
        """Make the microscope of one run; it starts anywhere in the window.

        Raises:
            ConfigError: the micrograph cannot be used.
        """
        field = None if self.micrograph is None else micrograph_field(self.micrograph, self.magnification, seed)
        return VirtualMicroscope(
            self.sample, self.magnification, seed, hollow=self.hollow, field=field, start_anywhere=True
        )


Run = tuple[Cell, int]
"""A cell and a seed."""
Ended = tuple[Run, Episode]


def play_runs(
    cells: Sequence[Cell],
    episodes: int,
    models: Path | None,
    workers: int,
    track: Callable[[Iterable[Ended], int], Iterable[Ended]],
    keep: Path | None = None,
) -> dict[Cell, list[Episode]]:
    """Play seeds 0.. of every cell; the outcome does not depend on the number of processes.

    Args:
        cells: the cells.
        episodes: number of runs of each cell.
        models: folder with the manifest; None for the weights that came with semd.
        workers: number of processes.
        track: progress display; takes the ended runs and their number, and passes the runs through.
        keep: folder in which every run is stored as it ends; runs stored there with the same models and rules are not
            played again.

    Raises:
        ConfigError: `workers` is less than 1, or the file of stored runs is damaged.
        ModelError: see `load_pipeline`.
    """
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, not {workers}")
    digest = _digest(models)
    runs = [(cell, seed) for cell in cells for seed in range(episodes)]
    known = _read_runs(keep / RUNS_FILE, digest) if keep is not None else {}
    ended = {run: known[_key(run)] for run in runs if _key(run) in known}
    left = [run for run in runs if run not in ended]
    for run, episode in track(_play_all(left, models, workers), len(left)):
        ended[run] = episode
        if keep is not None:
            _append_run(keep / RUNS_FILE, run, episode, digest)
    return {cell: [ended[cell, seed] for seed in range(episodes)] for cell in cells}


def _play_all(runs: Sequence[Run], models: Path | None, workers: int) -> Iterator[Ended]:
    if not runs:
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_load, initargs=(models,)) as pool:
        pending = {pool.submit(_play, run): run for run in runs}
        try:
            for done in as_completed(pending):
                yield pending[done], done.result()
        except BaseException:
            # Ctrl+C: ended runs are stored already; do not begin the rest.
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _digest(models: Path | None) -> str:
    """Digest of the models and rules: everything besides cell and seed that determines a run."""
    rules = repr(simulator_rules(1, 1.0))
    return hashlib.sha256(f"{models_digest(models or default_directory())}\n{rules}".encode()).hexdigest()


_PIPELINE: list[Pipeline] = []
"""Pipeline of this worker process."""


def _load(models: Path | None) -> None:
    _PIPELINE[:] = [load_pipeline(models, 1, simulator_rules)]


def _play(run: Run) -> Episode:
    cell, seed = run
    return run_episode(cell.microscope(seed), _PIPELINE[0])


def _key(run: Run) -> tuple[str, int, int]:
    cell, seed = run
    return cell.name, cell.magnification, seed


def _append_run(path: Path, run: Run, episode: Episode, digest: str) -> None:
    name, magnification, seed = _key(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = {"of": digest, "cell": name, "magnification": magnification, "seed": seed, **asdict(episode)}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _read_runs(path: Path, digest: str) -> dict[tuple[str, int, int], Episode]:
    """Read the stored runs; the run of an incomplete last line is played again."""
    if not path.exists():
        return {}
    kept: dict[tuple[str, int, int], Episode] = {}
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            found, key = values.pop("of"), (values.pop("cell"), values.pop("magnification"), values.pop("seed"))
            values |= {"status": Status(values["status"]), "path": tuple(values["path"])}
            episode = Episode(**values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if number == len(lines):
                break
            raise ConfigError(
                f"{path}, line {number}: not a stored run ({error}); remove the file to start again"
            ) from error
        if found == digest:
            kept[key] = episode
    return kept
