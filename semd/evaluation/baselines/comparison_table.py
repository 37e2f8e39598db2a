"""The comparison's rows, and who needs fewer frames than whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semd.evaluation.baselines.comparison import Comparison, Trial
from semd.evaluation.baselines.methods import OURS
from semd.evaluation.baselines.outcome import Outcome
from semd.evaluation.baselines.scenario import Scenario
from semd.evaluation.control.table_one import wilson_interval


@dataclass(frozen=True, slots=True)
class Row:
    """One method in one noise setting, over one cell or over all.

    Attributes:
        scenario: key of the noise setting.
        sample: of the cell, or "all".
        magnification: of the cell, or 0 for all.
        method: its name.
        focus_only: True where it started with good brightness and contrast, which it leaves alone.
        runs: number of runs.
        median_frames, p95_frames: of all runs.
        sharp: share that ran through with a true score of at least 9.
        sharp_low, sharp_high: its 95 % interval (Wilson).
        sharp_and_exposed: share that ended with good brightness and contrast, too.
        median_wd_error_u, p95_wd_error_u: distance from focus at the end in depths of field, of all runs.
        worse_than_start: runs that ended worse than they began.
        median_dose: detected electrons per pixel at emission 1, summed over a run's frames.
        failures: runs that did not run through, by reason.
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


def pooled_rows(comparison: Comparison, scenario: Scenario) -> list[Row]:
    """One row for each method over all cells of a noise setting; none for methods without runs."""
    of_setting = [trial for trial in comparison.trials if trial.start.scenario == scenario]
    return _rows(comparison, scenario, "all", 0, of_setting)


def cell_rows(comparison: Comparison, scenario: Scenario) -> list[Row]:
    """One row for each cell and method of a noise setting."""
    of_setting = [trial for trial in comparison.trials if trial.start.scenario == scenario]
    cells = dict.fromkeys((trial.start.sample, trial.start.magnification) for trial in of_setting)
    rows = []
    for sample, magnification in cells:
        of_cell = [t for t in of_setting if (t.start.sample, t.start.magnification) == (sample, magnification)]
        rows += _rows(comparison, scenario, sample, magnification, of_cell)
    return rows


def verdict(rows: Sequence[Row]) -> str | None:
    """Return True if ours needs fewer frames than every other row at equal or higher success, and if not, where.

    Success is the share of sharp pictures: what the others do not set is not held against them. Returns None
    where there is nothing to compare.
    """
    ours = next((row for row in rows if row.method == OURS), None)
    others = [row for row in rows if row.method != OURS]
    if ours is None or not others:
        return None
    exceptions = [f"{row.method} ({said})" for row in others if (said := _not_beaten(row, ours)) is not None]
    if not exceptions:
        return f"{OURS} needs fewer frames than every other method at equal or higher success"
    return f"{OURS} needs fewer frames at equal or higher success, but not against {', '.join(exceptions)}"


def _not_beaten(row: Row, ours: Row) -> str | None:
    """Advantage of a method over ours; None where ours needs fewer frames at equal or higher success."""
    if row.median_frames > ours.median_frames and row.sharp <= ours.sharp:
        return None
    frames = "fewer" if row.median_frames < ours.median_frames else "more"
    success = "lower" if row.sharp < ours.sharp else "higher"
    return (
        f"{'as many' if row.median_frames == ours.median_frames else frames} frames at "
        f"{'equal' if row.sharp == ours.sharp else success} success"
    )


def summarise(
    scenario: str, sample: str, magnification: int, method: str, outcomes: Sequence[Outcome], *, focus_only: bool
) -> Row:
    """Make one row of at least one run."""
    frames = [outcome.frames for outcome in outcomes]
    errors = [outcome.wd_error_u for outcome in outcomes]
    sharp = float(np.mean([outcome.sharp for outcome in outcomes]))
    low, high = wilson_interval(sharp, len(outcomes))
    return Row(
        scenario=scenario,
        sample=sample,
        magnification=magnification,
        method=method,
        focus_only=focus_only,
        runs=len(outcomes),
        median_frames=float(np.median(frames)),
        p95_frames=float(np.percentile(frames, 95)),
        sharp=sharp,
        sharp_low=max(low, 0.0),  # rounding may leave a share of none or all a hair outside
        sharp_high=min(high, 1.0),
        sharp_and_exposed=float(np.mean([outcome.sharp_and_exposed for outcome in outcomes])),
        median_wd_error_u=float(np.median(errors)),
        p95_wd_error_u=float(np.percentile(errors, 95)),
        worse_than_start=sum(outcome.worse for outcome in outcomes),
        median_dose=float(np.median([outcome.dose for outcome in outcomes])),
        failures=dict(Counter(outcome.failure for outcome in outcomes if outcome.failure is not None)),
    )


def _rows(
    comparison: Comparison, scenario: Scenario, sample: str, magnification: int, trials: Sequence[Trial]
) -> list[Row]:
    rows = []
    for entrant in comparison.entrants:
        outcomes = [trial.outcome for trial in trials if trial.entrant == entrant.name]
        if outcomes:
            rows.append(
                summarise(scenario.key, sample, magnification, entrant.name, outcomes, focus_only=entrant.focus_only)
            )
    return rows
