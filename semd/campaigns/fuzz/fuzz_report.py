"""Report of a fuzzing campaign, as a table and as files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from semd.campaigns.fuzz.fuzz_worker import Finding
from semd.reporting.saving import save_report
from semd.reporting.table import Column, Row, TextTable
from semd.service.storage import storage_error, write_atomically

REPORT_FILE, TABLE_FILE, FINDINGS_FOLDER = "fuzz.json", "fuzz.txt", "findings"
_COLUMNS = (
    Column("target", align="left"),
    Column("inputs"),
    Column("accepted"),
    Column("findings"),
    Column("inputs/s", form="{:.0f}"),
    Column("slowest ms", form="{:.1f}"),
    Column("peak MB", form="{:.0f}"),
)


@dataclass(slots=True)
class Figures:
    """Totals of one target.

    Attributes:
        inputs: number of inputs run.
        accepted: number of inputs read without an error.
        cpu_s: total CPU time.
        slowest_s: CPU time of the slowest input.
        slowest_index: index of the slowest input.
        peak_mb: largest resident memory of a worker process.
        findings: number of inputs that broke the promise of the reader.
    """

    inputs: int = 0
    accepted: int = 0
    cpu_s: float = 0.0
    slowest_s: float = 0.0
    slowest_index: int = 0
    peak_mb: float | None = None
    findings: int = 0


@dataclass(frozen=True, slots=True)
class FuzzReport:
    """Result of a campaign, complete or not.

    Attributes:
        seed, corpus_sha256: reproduce the inputs.
        seconds: wall-clock time over all sittings.
        interrupted: True if blocks remain.
        memory_mb, limit_s: limits of an input.
        figures: totals by target.
        findings: one finding of each fault.
        counts: number of findings of each fault.
    """

    seed: int
    corpus_sha256: str
    seconds: float
    interrupted: bool
    memory_mb: int
    limit_s: float
    figures: Mapping[str, Figures]
    findings: tuple[Finding, ...]
    counts: Mapping[str, int]

    @property
    def inputs(self) -> int:
        """Number of inputs run in all."""
        return sum(figures.inputs for figures in self.figures.values())

    @property
    def clean(self) -> bool:
        """True if there are no findings."""
        return not self.findings

    def as_json(self) -> dict[str, Any]:
        """Return the values for `--json` and the file."""
        return {
            "inputs": self.inputs,
            "faults": len(self.findings),
            "seed": self.seed,
            "corpus_sha256": self.corpus_sha256,
            "seconds": round(self.seconds, 1),
            "interrupted": self.interrupted,
            "memory_mb": self.memory_mb,
            "limit_s": self.limit_s,
            "targets": {name: asdict(figures) for name, figures in self.figures.items()},
            "findings": [asdict(finding) for finding in self.findings],
            "counts": dict(self.counts),
        }

    def as_text(self) -> str:
        """Format the report for a terminal; inputs/s refers to CPU time, since other programs share the machine."""
        rows: list[Row] = []
        for name, figures in self.figures.items():
            rate = figures.inputs / figures.cpu_s if figures.cpu_s else 0.0
            counts = figures.inputs, figures.accepted, figures.findings
            rows.append((name, *counts, rate, figures.slowest_s * 1e3, figures.peak_mb))
        notes = [
            f"{self.inputs} inputs, {len(self.findings)} faults, {self.seconds:.0f} s"
            + (", interrupted" if self.interrupted else "")
        ]
        for finding in self.findings:
            times = self.counts[fault_of(finding)]
            notes.append(f"{finding.target} {finding.index}: {finding.kind}, {finding.where} ({times} times)")
        return TextTable(_COLUMNS, tuple(rows), notes=tuple(notes)).as_text()

    def save(self, directory: Path, inputs: Mapping[Finding, bytes]) -> None:
        """Write `fuzz.json`, `fuzz.txt`, and the input and traceback of each finding.

        Raises:
            StorageError: the files cannot be written.
        """
        folder = directory / FINDINGS_FOLDER
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(folder, "create", error) from error
        for finding, data in inputs.items():
            stem = f"{finding.target}-{finding.index}"
            write_atomically(folder / f"{stem}.bin", data)
            write_atomically(folder / f"{stem}.txt", f"{finding.kind}: {finding.where}\n{finding.text}".encode())
        save_report(directory, texts={TABLE_FILE: self.as_text()}, values={REPORT_FILE: self.as_json()})


def fault_of(finding: Finding) -> str:
    """Return the key of a finding's fault; findings with the same key have the same fault."""
    return f"{finding.target}: {finding.kind}: {finding.where}"
