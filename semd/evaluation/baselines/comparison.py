"""`semd evaluate peers`: every method at the same fields, starts and noise, and judged by the same truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from semd.evaluation.baselines.methods import Entrant
from semd.evaluation.baselines.outcome import Outcome, run_peer
from semd.evaluation.baselines.scenario import Scenario
from semd.simulator.field import Sample


@dataclass(frozen=True, slots=True)
class Start:
    """Start of a run: the same for every method, but for brightness and contrast (see `Scenario.microscope`)."""

    scenario: Scenario
    sample: Sample
    magnification: int
    seed: int


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of one method.

    Attributes:
        start: where it started.
        entrant: the method's name.
        outcome: how it ended.
    """

    start: Start
    entrant: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Comparison:
    """All runs.

    Attributes:
        scenarios: noise settings in the order of the tables.
        entrants: methods in the order of the rows.
        trials: the runs; every method has one from each start.
        interrupted: True where Ctrl+C left starts out.
    """

    scenarios: tuple[Scenario, ...]
    entrants: tuple[Entrant, ...]
    trials: tuple[Trial, ...]
    interrupted: bool


def compare(
    entrants: Sequence[Entrant],
    scenarios: Sequence[Scenario],
    cells: Sequence[tuple[Sample, int]],
    episodes: int,
    track: Callable[[Sequence[Start]], Iterable[Start]],
) -> Comparison:
    """Run every method from every start; Ctrl+C ends it with the starts that every method has run from.

    Args:
        entrants: the methods.
        scenarios: noise settings.
        cells: (sample, magnification).
        episodes: seeds 0.. of every cell in every setting.
        track: shows progress while it hands the starts through.
    """
    # Seeds change slowest: a comparison cut short has something of every setting and cell.
    starts = [
        Start(scenario, sample, magnification, seed)
        for seed in range(episodes)
        for scenario in scenarios
        for sample, magnification in cells
    ]
    trials: list[Trial] = []
    interrupted = False
    try:
        for start in track(starts):
            trials.extend(_run_all(entrants, start))
    except KeyboardInterrupt:
        interrupted = True
    return Comparison(tuple(scenarios), tuple(entrants), tuple(trials), interrupted)


def _run_all(entrants: Sequence[Entrant], start: Start) -> list[Trial]:
    trials = []
    for entrant in entrants:
        if entrant.peer is None:
            continue
        microscope = start.scenario.microscope(
            start.sample, start.magnification, start.seed, focus_only=entrant.focus_only
        )
        trials.append(Trial(start, entrant.name, run_peer(entrant.peer, microscope)))
    return trials
