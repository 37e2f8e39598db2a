"""`semd evaluate peers`: every method on the same fields, starts and noise, judged by the same ground truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from semd.evaluation.baselines.methods import ComparedMethod
from semd.evaluation.baselines.outcome import BaselineOutcome, run_method
from semd.evaluation.baselines.scenario import Scenario
from semd.simulator.field import Sample


@dataclass(frozen=True, slots=True)
class Start:
    """Start of a run, the same for every method except for brightness and contrast (see `Scenario.microscope`)."""

    scenario: Scenario
    sample: Sample
    magnification: int
    seed: int


@dataclass(frozen=True, slots=True)
class BaselineRun:
    """One run of one method.

    Attributes:
        start: start of the run.
        method: name of the method.
        outcome: outcome of the run.
    """

    start: Start
    method: str
    outcome: BaselineOutcome


@dataclass(frozen=True, slots=True)
class Comparison:
    """All runs.

    Attributes:
        scenarios: noise settings in the order of the tables.
        methods: methods in the order of the rows.
        runs: one for each start and method.
        interrupted: True if Ctrl+C ended the comparison before the last start.
    """

    scenarios: tuple[Scenario, ...]
    methods: tuple[ComparedMethod, ...]
    runs: tuple[BaselineRun, ...]
    interrupted: bool


def compare(
    methods: Sequence[ComparedMethod],
    scenarios: Sequence[Scenario],
    cells: Sequence[tuple[Sample, int]],
    episodes: int,
    track: Callable[[Sequence[Start]], Iterable[Start]],
) -> Comparison:
    """Run every method from every start; after Ctrl+C the result holds the starts that all methods have completed.

    Args:
        methods: the methods.
        scenarios: noise settings.
        cells: (sample, magnification).
        episodes: number of seeds 0.. of every cell in every scenario.
        track: progress display that passes the starts through.
    """
    # Seeds change slowest, so that an interrupted comparison covers every scenario and cell.
    starts = [
        Start(scenario, sample, magnification, seed)
        for seed in range(episodes)
        for scenario in scenarios
        for sample, magnification in cells
    ]
    runs: list[BaselineRun] = []
    interrupted = False
    try:
        for start in track(starts):
            runs.extend(_run_all(methods, start))
    except KeyboardInterrupt:
        interrupted = True
    return Comparison(tuple(scenarios), tuple(methods), tuple(runs), interrupted)


def _run_all(methods: Sequence[ComparedMethod], start: Start) -> list[BaselineRun]:
    runs = []
    for method in methods:
        if method.autofocus is None:
            continue
        microscope = start.scenario.microscope(
            start.sample, start.magnification, start.seed, focus_only=method.focus_only
        )
        runs.append(BaselineRun(start, method.name, run_method(method.autofocus, microscope)))
    return runs
