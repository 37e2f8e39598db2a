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
from semd.evaluation.baselines.comparison_table import ComparisonRow, cell_rows, pooled_rows, verdict
from semd.evaluation.control.episode import GOOD_SCORE
from semd.reporting.saving import save_report
from semd.reporting.table import Cell, Column, Remark, TextTable

_COLUMNS = (
    Column("method", align="left"),
    Column("runs"),
    Column("frames", form="{:.1f}"),
    Column("p95", form="{:.0f}"),
    Column("sharp", form="{:.3f}"),
    Column("95 %"),
    Column("+ B&C", form="{:.3f}"),
    Column("WD error", form="{:.2f}"),
    Column("p95", form="{:.2f}"),
    Column("worse"),
    Column("dose", form="{:.0f}"),
)
_PACKAGES = ("mapfost", "fibsem")


def as_text(comparison: Comparison) -> str:
    """Format the table for a terminal: one block for each noise setting, followed by the notes."""
    tables = []
    for scenario in comparison.scenarios:
        rows = pooled_rows(comparison, scenario)
        conclusion = verdict(rows)
        table = TextTable(
            columns=_COLUMNS,
            rows=(
                *(_cells(row) for row in rows),
                *((each.name, Remark(f"not run: {each.absent}")) for each in comparison.methods if each.absent),
            ),
            title=(scenario.title,),
            notes=(f"  {conclusion}", "") if conclusion else ("",),
        )
        tables.append(table.as_text())
    return "\n".join(tables + notes(comparison))


def as_json(comparison: Comparison) -> dict[str, object]:
    """Return the pooled rows, verdicts and notes."""
    rows = {scenario.key: pooled_rows(comparison, scenario) for scenario in comparison.scenarios}
    return {
        "rows": [asdict(row) for group in rows.values() for row in group],
        "verdicts": {key: verdict(group) for key, group in rows.items()},
        "not_run": {method.name: method.absent for method in comparison.methods if method.absent},
        "notes": notes(comparison),
        "interrupted": comparison.interrupted,
    }


def notes(comparison: Comparison) -> list[str]:
    """Explain the columns of the table and list the failed runs."""
    found = [
        "* focus only: brightness and contrast start, and stay, at the field's optimum in every setting.",
        f"sharp: ended without failure within {FRAME_BUDGET} frames, reported success, and the true score is at least "
        f"{GOOD_SCORE:g}; + B&C: brightness and contrast are good as well.",
        "WD error in depths of field (median and 95th percentile of all runs). worse: the final true score is lower "
        "than at the start.",
        "dose: detected electrons per pixel at emission 1, summed over the frames of a run, median; every frame is a "
        "full frame of 640x480 with the same dwell time, even where a package would scan a part of it or faster.",
        "The focus lies within 25 depths of field of the start; every method may search 30 to either side, and the "
        "default of fibsem searches 25 µm. Frames that calibrate mapfost are not counted, nor is the final image that "
        "every method except semd, which ends on its best frame, still has to take.",
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
        found.append("Interrupted: the rows contain the runs completed before the interruption.")
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
            "scenario": run.start.scenario.key,
            "sample": run.start.sample,
            "magnification": run.start.magnification,
            "seed": run.start.seed,
            "method": run.method,
            **asdict(run.outcome),
        }
        for run in comparison.runs
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


def _cells(row: ComparisonRow) -> tuple[Cell, ...]:
    return (
        f"{row.method} *" if row.focus_only else row.method,
        row.runs,
        row.median_frames,
        row.p95_frames,
        row.sharp,
        f"{row.sharp_low:.3f}..{row.sharp_high:.3f}",
        row.sharp_and_exposed,
        row.median_wd_error_u,
        row.p95_wd_error_u,
        row.worse_than_start,
        row.median_dose,
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
