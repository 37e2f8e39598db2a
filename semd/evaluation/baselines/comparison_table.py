"""Rows of the comparison, and the verdict on the number of frames that the methods need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semd.evaluation.baselines.comparison import BaselineRun, Comparison
from semd.evaluation.baselines.methods import OURS
from semd.evaluation.baselines.outcome import BaselineOutcome
from semd.evaluation.baselines.scenario import Scenario
from semd.evaluation.control.table_one import wilson_interval


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """Summary of one method in one noise setting, over one cell or all cells.

    Attributes:
        scenario: key of the noise setting.
        sample: of the cell, or "all".
        magnification: of the cell, or 0 for all.
        method: name of the method.
        focus_only: True if the method does not set brightness and contrast, which then start at the optimum.
        runs: number of runs.
        median_frames, p95_frames: median and 95th percentile of the number of frames.
        sharp: share of runs that ended without failure at a true score of at least 9.
        sharp_low, sharp_high: 95 % confidence interval of `sharp` (Wilson).
        sharp_and_exposed: share of runs that ended sharp with good brightness and contrast.
        median_wd_error_u, p95_wd_error_u: final distance from focus in depths of field, over all runs.
        worse_than_start: number of runs whose true score ended lower than it started.
        median_dose: median of the detected electrons per pixel at emission 1, summed over the frames of a run.
        failures: number of failed runs, by reason.
    """

    scenario: str
    sample: str
    magnification: int
    method: str
    focus_only: bool
    runs: int
    median_frames: float
    p95_frames: float
    sharp: float
    sharp_low: float
    sharp_high: float
    sharp_and_exposed: float
    median_wd_error_u: float
    p95_wd_error_u: float
    worse_than_start: int
    median_dose: float
    failures: dict[str, int]


def pooled_rows(comparison: Comparison, scenario: Scenario) -> list[ComparisonRow]:
    """Make one row for each method over all cells of a noise setting; methods without runs have no row."""
    of_setting = [run for run in comparison.runs if run.start.scenario == scenario]
    return _rows(comparison, scenario, "all", 0, of_setting)


def cell_rows(comparison: Comparison, scenario: Scenario) -> list[ComparisonRow]:
    """Make one row for each cell and method of a noise setting."""
    of_setting = [run for run in comparison.runs if run.start.scenario == scenario]
    cells = dict.fromkeys((run.start.sample, run.start.magnification) for run in of_setting)
    rows = []
    for sample, magnification in cells:
        of_cell = [t for t in of_setting if (t.start.sample, t.start.magnification) == (sample, magnification)]
        rows += _rows(comparison, scenario, sample, magnification, of_cell)
    return rows


def verdict(rows: Sequence[ComparisonRow]) -> str | None:
    """State whether semd needs fewer frames than every baseline at equal or higher success, and name the exceptions.

    Success is the share of sharp runs; brightness and contrast do not count, since some baselines do not set them.
    Returns None if there is nothing to compare.
    """
    ours = next((row for row in rows if row.method == OURS), None)
    others = [row for row in rows if row.method != OURS]
    if ours is None or not others:
        return None
    exceptions = [f"{row.method} ({said})" for row in others if (said := _not_beaten(row, ours)) is not None]
    if not exceptions:
        return f"{OURS} needs fewer frames than every other method at equal or higher success"
    return f"{OURS} needs fewer frames at equal or higher success, but not against {', '.join(exceptions)}"


def _not_beaten(row: ComparisonRow, ours: ComparisonRow) -> str | None:
    """Describe the advantage of a method over semd; None if semd needs fewer frames at equal or higher success."""
    if row.median_frames > ours.median_frames and row.sharp <= ours.sharp:
        return None
    frames = "fewer" if row.median_frames < ours.median_frames else "more"
    success = "lower" if row.sharp < ours.sharp else "higher"
    return (
        f"{'as many' if row.median_frames == ours.median_frames else frames} frames at "
        f"{'equal' if row.sharp == ours.sharp else success} success"
    )


def summarise(
    scenario: str,
    sample: str,
    magnification: int,
    method: str,
    outcomes: Sequence[BaselineOutcome],
    *,
    focus_only: bool,
) -> ComparisonRow:
    """Summarise the outcomes of at least one run as a row."""
    frames = [outcome.frames for outcome in outcomes]
    errors = [outcome.wd_error_u for outcome in outcomes]
    sharp = float(np.mean([outcome.sharp for outcome in outcomes]))
    low, high = wilson_interval(sharp, len(outcomes))
    return ComparisonRow(
        scenario=scenario,
        sample=sample,
        magnification=magnification,
        method=method,
        focus_only=focus_only,
        runs=len(outcomes),
        median_frames=float(np.median(frames)),
        p95_frames=float(np.percentile(frames, 95)),
        sharp=sharp,
        sharp_low=max(low, 0.0),  # rounding may exceed 0..1 by a few units in the last place
        sharp_high=min(high, 1.0),
        sharp_and_exposed=float(np.mean([outcome.sharp_and_exposed for outcome in outcomes])),
        median_wd_error_u=float(np.median(errors)),
        p95_wd_error_u=float(np.percentile(errors, 95)),
        worse_than_start=sum(outcome.worse for outcome in outcomes),
        median_dose=float(np.median([outcome.dose for outcome in outcomes])),
        failures=dict(Counter(outcome.failure for outcome in outcomes if outcome.failure is not None)),
    )


def _rows(
    comparison: Comparison, scenario: Scenario, sample: str, magnification: int, runs: Sequence[BaselineRun]
) -> list[ComparisonRow]:
    rows = []
    for method in comparison.methods:
        outcomes = [run.outcome for run in runs if run.method == method.name]
        if outcomes:
            rows.append(
                summarise(scenario.key, sample, magnification, method.name, outcomes, focus_only=method.focus_only)
            )
    return rows
