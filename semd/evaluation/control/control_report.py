"""`semd evaluate control`: Table I, Fig. 8, fields with nothing to focus on, and the twin, in one report."""

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
from semd.evaluation.control.table_one import Table, make_table, simulator_rules
from semd.evaluation.twin.twin_runs import TWIN_SEED, TwinRuns, play_on_twin
from semd.model_store import default_directory, load_model
from semd.protocol.action import Status
from semd.reporting.saving import save_report
from semd.simulator.field import Sample
from semd.simulator.twin_stand import TwinStand

MICROGRAPH_MAGNIFICATION = 5000
HOLLOW_MAGNIFICATIONS = (5000, 10000)
SOON_ENDED = 15
"""Frames within which a field with nothing to focus on should be given up."""

Step = TypeVar("Step")


class Track(Protocol):
    """Shows progress while it hands steps through."""

    def __call__(self, steps: Iterable[Step], total: int, doing: str, /) -> Iterable[Step]:
        """The steps."""


@dataclass(frozen=True, slots=True)
class ControlPlan:
    """Settings of the evaluation.

    Attributes:
        kinds: sample and magnification of each cell.
        micrographs: real micrographs that stand in for a sample, at x5000.
        episodes: runs of each cell.
        hollow: runs on fields with nothing to focus on.
        twin: runs on the feature-level twin.
    """

    kinds: tuple[tuple[Sample, int], ...]
    micrographs: tuple[Path, ...] = ()
    episodes: int = 20
    hollow: int = 0
    twin: int = 0

    @property
    def cells(self) -> list[Cell]:
        """The cells of Table I."""
        cells = [Cell(sample, magnification) for sample, magnification in self.kinds]
        return cells + [Cell("assorted", MICROGRAPH_MAGNIFICATION, micrograph=path) for path in self.micrographs]


@dataclass(frozen=True, slots=True)
class HollowRuns:
    """Runs on fields with nothing to focus on.

    Attributes:
        episodes: number of runs.
        done: runs that said DONE.
        most_frames: of any run.
        ended_soon: runs that ended within 15 frames.
    """

    episodes: int
    done: int
    most_frames: int
    ended_soon: int

    def as_text(self) -> str:
        """One line for a terminal."""
        return (
            f"nothing to focus on, {self.episodes} fields: {self.done} said DONE, {self.ended_soon} ended within "
            f"{SOON_ENDED} frames, the longest took {self.most_frames}"
        )


@dataclass(frozen=True, slots=True)
class ControlEvaluation:
    """All that was measured; what was not asked for is None."""

    table: Table
    groups: dict[tuple[str, int], list[Episode]]
    hollow: HollowRuns | None
    twin: TwinRuns | None

    def as_text(self) -> str:
        """Everything for a terminal."""
        more = [part.as_text() for part in (self.hollow, self.twin) if part is not None]
        return "\n".join([self.table.as_text(), *more])

    def as_json(self) -> dict[str, object]:
        """Everything but the single runs."""
        more = {
            name: None if part is None else asdict(part)
            for name, part in (("hollow", self.hollow), ("twin", self.twin))
        }
        return self.table.as_json() | more

    def save(self, directory: Path) -> None:
        """Write `table.txt`, `control.json` and `fig8.png`; the directory is created.

        Raises:
            StorageError, OSError: the directory cannot be written.
        """
        save_report(directory, texts={"table.txt": self.as_text()}, values={"control.json": self.as_json()})
        save_fig8(directory / "fig8.png", self.groups)


def evaluate_control(
    plan: ControlPlan, models: Path | None, workers: int, track: Track, out: Path | None = None
) -> ControlEvaluation:
    """Run everything that was asked for.

    Args:
        plan: what to run.
        models: folder with the manifest; None for the weights that came with semd.
        workers: processes.
        track: shows progress.
        out: where every run is kept as it ends, and the report at last; runs found there are not played again.

    Raises:
        ConfigError, ModelError: see `play_runs`.
    """
    hollow_cells = [Cell("grid", magnification, "force") for magnification in HOLLOW_MAGNIFICATIONS]
    played = play_runs(plan.cells, plan.episodes, models, workers, lambda s, n: track(s, n, "runs"), out)
    groups = {(cell.name, cell.magnification): runs for cell, runs in played.items()}
    hollow = None
    if plan.hollow:
        each = -(-plan.hollow // len(hollow_cells))
        empty = play_runs(hollow_cells, each, models, workers, lambda s, n: track(s, n, "hollows"), out)
        hollow = count_hollow([run for runs in empty.values() for run in runs][: plan.hollow])
    twin = None
    if plan.twin:
        policy = ActorPolicy.load(load_model(models or default_directory(), "actor").data)
        rules = simulator_rules(policy.n_frames, policy.rho)
        stand = TwinStand(plan.twin, rules, TWIN_SEED)
        twin = play_on_twin(policy, rules, stand, lambda s, n: track(s, n, "twin, frame by frame"))
    found = ControlEvaluation(make_table(groups), groups, hollow, twin)
    if out is not None:
        found.save(out)
    return found


def count_hollow(episodes: Sequence[Episode]) -> HollowRuns:
    """Count how runs without anything to focus on ended."""
    frames = np.array([each.frames for each in episodes])
    return HollowRuns(
        episodes=len(episodes),
        done=sum(each.status is Status.DONE for each in episodes),
        most_frames=int(frames.max()),
        ended_soon=int((frames <= SOON_ENDED).sum()),
    )
