"""The comparison as text, JSON and files."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from semd.errors import StorageError
from semd.evaluation.baselines.baseline_harness import FRAME_BUDGET
from semd.evaluation.baselines.comparison import Comparison
from semd.evaluation.baselines.comparison_table import Row, cell_rows, pooled_rows, verdict
from semd.evaluation.control.episode import GOOD_SCORE
from semd.reporting.saving import save_report

_HEAD = (
    f"{'method':24}{'runs':>5}{'frames':>8}{'p95':>5}{'sharp':>7}{'95 %':>14}{'+ B&C':>7}"
    f"{'WD error':>10}{'p95':>7}{'worse':>7}{'dose':>8}"
)
_PACKAGES = ("mapfost", "fibsem")


def as_text(comparison: Comparison) -> str:
    """The table for a terminal: one block for each noise setting, notes beneath."""
    lines = []
    for scenario in comparison.scenarios:
        rows = pooled_rows(comparison, scenario)
        lines += [scenario.title, _HEAD, *(_line(row) for row in rows)]
        lines += [f"{entrant.name:24} not run: {entrant.absent}" for entrant in comparison.entrants if entrant.absent]
        conclusion = verdict(rows)
        lines += [f"  {conclusion}", ""] if conclusion else [""]
    return "\n".join(lines + notes(comparison))


def as_json(comparison: Comparison) -> dict[str, object]:
    """Pooled rows, verdicts and notes."""
    rows = {scenario.key: pooled_rows(comparison, scenario) for scenario in comparison.scenarios}
    return {
        "rows": [asdict(row) for group in rows.values() for row in group],
        "verdicts": {key: verdict(group) for key, group in rows.items()},
        "not_run": {entrant.name: entrant.absent for entrant in comparison.entrants if entrant.absent},
        "notes": notes(comparison),
        "interrupted": comparison.interrupted,
    }


def notes(comparison: Comparison) -> list[str]:
    """Notes on the table, and the methods that failed."""
    found = [
        "* focus only: brightness and contrast start, and stay, at the field's optimum in every setting.",
        f"sharp: ran through within {FRAME_BUDGET} frames, believes in its focus, and the true score is at least "
        f"{GOOD_SCORE:g}; + B&C: brightness and contrast are right, too.",
        "WD error in depths of field (median, 95th percentile of all runs). worse: the true score ended lower than at "
        "the start.",
        "dose: detected electrons per pixel at emission 1, summed over a run's frames, median; every frame is a whole "
        "one of 640x480 with the same dwell time, also where a package would scan a part or faster.",
        "The focus lies within 25 depths of field of the start; every method may look 30 either side, and fibsem's "
        "default looks 25 µm. Frames that calibrate mapfost do not count; nor does the picture that the methods but "
        "semd, which ends on its best frame, still have to take.",
    ]
    installed = [f"{name} {version}" for name in _PACKAGES if (version := _version(name)) is not None]
    if installed:
        found.append(f"Packages: {', '.join(installed)}.")
    for scenario in comparison.scenarios:
        for row in pooled_rows(comparison, scenario):
            if row.failures:
                reasons = ", ".join(f"{count} x {reason}" for reason, count in row.failures.items())
                found.append(f"Failures of {row.method}, {scenario.key}: {reasons}.")
    if comparison.interrupted:
        found.append("Interrupted: the rows hold the runs made until then.")
    return found


def save(comparison: Comparison, directory: Path) -> None:
    """Write `peers.txt`, `peers.json`, `peers.csv` (pooled and by cell) and `runs.csv` (every run).

    Raises:
        StorageError: the folder cannot be written.
    """
    rows = [
        row
        for scenario in comparison.scenarios
        for row in (*pooled_rows(comparison, scenario), *cell_rows(comparison, scenario))
    ]
    runs = [
        {
            "scenario": trial.start.scenario.key,
            "sample": trial.start.sample,
            "magnification": trial.start.magnification,
            "seed": trial.start.seed,
            "method": trial.entrant,
            **asdict(trial.outcome),
        }
        for trial in comparison.trials
    ]
    save_report(directory, texts={"peers.txt": as_text(comparison)}, values={"peers.json": as_json(comparison)})
    try:
        _write_csv(directory / "peers.csv", [asdict(row) | {"failures": sum(row.failures.values())} for row in rows])
        _write_csv(directory / "runs.csv", runs)
    except OSError as error:
        raise StorageError(f"{directory}: the comparison cannot be written: {error}") from error


def _write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        if rows:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def _line(row: Row) -> str:
    name = f"{row.method} *" if row.focus_only else row.method
    interval = f"{row.sharp_low:.3f}..{row.sharp_high:.3f}"
    return (
        f"{name:24}{row.runs:>5}{row.median_frames:>8.1f}{row.p95_frames:>5.0f}{row.sharp:>7.3f}{interval:>14}"
        f"{row.sharp_and_exposed:>7.3f}{row.median_wd_error_u:>10.2f}{row.p95_wd_error_u:>7.2f}"
        f"{row.worse_than_start:>7}{row.median_dose:>8.0f}"
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
