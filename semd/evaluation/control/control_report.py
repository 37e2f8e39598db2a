"""`semd evaluate control`: Table I, Fig. 8, featureless fields and runs on the twin, in one report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from semd.control.policy import ActorPolicy
from semd.evaluation.control.control_runs import Cell, play_runs
from semd.evaluation.control.episode import Episode
from semd.evaluation.control.figure_eight import save_fig8
from semd.evaluation.control.table_one import TableOne, make_table, simulator_rules
from semd.evaluation.twin.twin_runs import TWIN_SEED, TwinRuns, play_on_twin
from semd.model_store import default_directory, load_model
from semd.protocol.action import Status
from semd.reporting.saving import save_report
from semd.simulator.field import Sample
from semd.simulator.twin_microscopes import TwinMicroscopes

MICROGRAPH_MAGNIFICATION = 5000
HOLLOW_MAGNIFICATIONS = (5000, 10000)
EARLY_END_FRAMES = 15
"""Frames within which a run on a featureless field should end; chosen."""

Step = TypeVar("Step")


class RunProgress(Protocol):
    """Progress display that passes `total` steps through."""

    def __call__(self, steps: Iterable[Step], total: int, doing: str, /) -> Iterable[Step]:
        """Yield the steps and show the progress under a description."""


@dataclass(frozen=True, slots=True)
class ControlPlan:
    """Settings of the evaluation.

    Attributes:
        kinds: sample and magnification of each cell.
        micrographs: real micrographs used as further samples, at x5000.
        episodes: number of runs of each cell.
        hollow: number of runs on featureless fields.
        twin: number of runs on the feature-level twin.
    """

    kinds: tuple[tuple[Sample, int], ...]
    micrographs: tuple[Path, ...] = ()
    episodes: int = 20
    hollow: int = 0
    twin: int = 0

    @property
    def cells(self) -> list[Cell]:
        """Cells of Table I."""
        cells = [Cell(sample, magnification) for sample, magnification in self.kinds]
        return cells + [Cell("assorted", MICROGRAPH_MAGNIFICATION, micrograph=path) for path in self.micrographs]


@dataclass(frozen=True, slots=True)
class HollowRuns:
    """Counts over the runs on featureless fields.

    Attributes:
        episodes: number of runs.
        done: number of runs that ended with DONE.
        most_frames: frames of the longest run.
        ended_soon: number of runs that ended within `EARLY_END_FRAMES` frames.
    """

    episodes: int
    done: int
    most_frames: int
    ended_soon: int

    def as_text(self) -> str:
        """Format the counts as one line."""
        return (
            f"{self.episodes} featureless fields: {self.done} ended with DONE, {self.ended_soon} ended within "
            f"{EARLY_END_FRAMES} frames, the longest run took {self.most_frames}"
        )


@dataclass(frozen=True, slots=True)
class ControlEvaluation:
    """Result of `evaluate_control`; parts that were not requested are None."""

    table: TableOne
    groups: dict[tuple[str, int], list[Episode]]
    hollow: HollowRuns | None
    twin: TwinRuns | None

    def as_text(self) -> str:
        """Format the report for a terminal."""
        more = [part.as_text() for part in (self.hollow, self.twin) if part is not None]
        return "\n".join([self.table.as_text(), *more])

    def as_json(self) -> dict[str, object]:
        """Return all figures, without the individual runs."""
        more = {
            name: None if part is None else asdict(part)
            for name, part in (("hollow", self.hollow), ("twin", self.twin))
        }
        return self.table.as_json() | more

    def save(self, directory: Path) -> None:
        """Write `table.txt`, `control.json` and `fig8.png`; create the directory.

        Raises:
            StorageError, OSError: the directory cannot be written.
        """
        save_report(directory, texts={"table.txt": self.as_text()}, values={"control.json": self.as_json()})
        save_fig8(directory / "fig8.png", self.groups)


def evaluate_control(
    plan: ControlPlan, models: Path | None, workers: int, track: RunProgress, out: Path | None = None
) -> ControlEvaluation:
    """Play the runs of a plan and summarise them.

    Args:
        plan: the runs to play.
        models: folder with the manifest; None for the weights that came with semd.
        workers: number of processes.
        track: progress display.
        out: folder for the runs, stored as they end, and for the report; runs stored there are not played again.

    Raises:
        ConfigError, ModelError: see `play_runs`.
    """
    played = play_runs(plan.cells, plan.episodes, models, workers, lambda s, n: track(s, n, "runs"), out)
    groups = {(cell.name, cell.magnification): runs for cell, runs in played.items()}
    hollow = None
    if plan.hollow:
        hollow_cells = [Cell("grid", magnification, "force") for magnification in HOLLOW_MAGNIFICATIONS]
        each = -(-plan.hollow // len(hollow_cells))
        empty = play_runs(hollow_cells, each, models, workers, lambda s, n: track(s, n, "hollows"), out)
        hollow = count_hollow([run for runs in empty.values() for run in runs][: plan.hollow])
    twin = None
    if plan.twin:
        policy = ActorPolicy.load(load_model(models or default_directory(), "actor").data)
        rules = simulator_rules(policy.n_frames, policy.rho)
        microscopes = TwinMicroscopes(plan.twin, rules, TWIN_SEED)
        twin = play_on_twin(policy, rules, microscopes, lambda s, n: track(s, n, "twin, frame by frame"))
    evaluation = ControlEvaluation(make_table(groups), groups, hollow, twin)
    if out is not None:
        evaluation.save(out)
    return evaluation


def count_hollow(episodes: Sequence[Episode]) -> HollowRuns:
    """Count the outcomes of runs on featureless fields."""
    frames = np.array([each.frames for each in episodes])
    return HollowRuns(
        episodes=len(episodes),
        done=sum(each.status is Status.DONE for each in episodes),
        most_frames=int(frames.max()),
        ended_soon=int((frames <= EARLY_END_FRAMES).sum()),
    )
