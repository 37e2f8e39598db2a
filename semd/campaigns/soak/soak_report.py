"""Report of a soak: the fate of every frame, and the growth of memory, files and threads."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

from semd.campaigns.soak.processes import ProcessSample
from semd.campaigns.soak.soak_sem import SoakFates
from semd.reporting.saving import save_report
from semd.reporting.table import Column, TextTable
from semd.service.storage import write_atomically

_WARM_UP = 0.2
"""Share of the frames counted as warm-up, in which caches and pools fill; chosen."""
_MIN_SAMPLES = 8
_MAX_GROWTH = 0.05


@dataclass(frozen=True, slots=True)
class Growth:
    """Growth of one quantity after the warm-up.

    Attributes:
        process: name of the process, or `ledger`.
        what: `resident_mb`, `handles`, `threads`, or `ledger_bytes` for each frame.
        before, after: medians of the first and of the last quarter.
        share: relative growth; 0.01 is one per cent.
    """

    process: str
    what: str
    before: float
    after: float
    share: float

    @property
    def is_flat(self) -> bool:
        """True if the quantity grew by less than 5 %, or by less than one handle or thread."""
        return self.share < _MAX_GROWTH or (self.what in ("handles", "threads") and self.after - self.before < 1.0)


@dataclass(frozen=True, slots=True)
class SoakReport:
    """Result of a soak.

    Attributes:
        frames: number of frames requested.
        fates: fates of the frames written.
        seconds: time from the first to the last ended frame.
        interrupted: True if Ctrl+C ended the soak.
        stalled: reason why the soak stopped early; empty if it did not.
        kills: number of processes killed on purpose.
        writer_faults, link_faults: number of injections of each fault.
        growth: growth of each quantity; empty if there were too few samples.
        samples: samples of both processes.
    """

    frames: int
    fates: SoakFates
    seconds: float
    interrupted: bool
    stalled: str
    kills: int
    writer_faults: Mapping[str, int]
    link_faults: Mapping[str, int]
    growth: tuple[Growth, ...]
    samples: tuple[ProcessSample, ...]

    @property
    def lossless(self) -> bool:
        """True if all frames were written and each ended exactly once."""
        fates = self.fates
        return fates.written == self.frames and not (fates.lost or fates.duplicated or self.interrupted)

    @property
    def flat(self) -> bool:
        """True if there were enough samples and no quantity grew."""
        return bool(self.growth) and all(growth.is_flat for growth in self.growth)

    @property
    def passed(self) -> bool:
        """True if the soak was lossless and no quantity grew."""
        return self.lossless and self.flat

    def as_json(self) -> dict[str, Any]:
        """Return the values for `--json` and the file; the samples have their own file."""
        return {
            "passed": self.passed,
            "frames": self.frames,
            "written": self.fates.written,
            "ended": self.fates.ended,
            "lost": 0 if self.interrupted else len(self.fates.lost),
            "under_way": len(self.fates.lost) if self.interrupted else 0,
            "duplicated": len(self.fates.duplicated),
            "ended_otherwise": self.fates.otherwise,
            "seconds": round(self.seconds, 1),
            "frames_per_second": round(self.fates.ended / self.seconds, 2) if self.seconds else None,
            "interrupted": self.interrupted,
            "stalled": self.stalled,
            "kills": self.kills,
            "writer_faults": dict(self.writer_faults),
            "link_faults": dict(self.link_faults),
            "growth": [asdict(growth) | {"flat": growth.is_flat} for growth in self.growth],
            "first_lost": [] if self.interrupted else list(self.fates.lost[:20]),
            "first_duplicated": list(self.fates.duplicated[:20]),
        }

    def as_text(self) -> str:
        """Format the report for a terminal."""
        found = self.as_json()
        faults = sum(self.writer_faults.values()), sum(self.link_faults.values())
        notes = []
        if not self.growth:
            notes.append("too few samples to tell whether anything grew")
        if self.interrupted:
            notes.append(f"interrupted; {found['under_way']} frames were under way")
        if self.stalled:
            notes.append(f"given up: {self.stalled}")
        return TextTable(
            columns=(
                Column("after the warm-up", align="left"),
                Column("before", form="{:.1f}"),
                Column("after", form="{:.1f}"),
                Column("growth", form="{:.1%}"),
            ),
            rows=tuple((f"{each.process}, {each.what}", each.before, each.after, each.share) for each in self.growth),
            title=(
                f"{found['ended']} of {self.frames} frames ended in {self.seconds:.0f} s "
                f"({found['frames_per_second']} frames/s), {faults[0]} pairs saved wrongly, "
                f"{faults[1]} faults of the link, {self.kills} kills",
                f"lost {found['lost']}, duplicated {found['duplicated']}, ended otherwise {found['ended_otherwise']}",
                "",
            ),
            notes=(*notes, "", "passed" if self.passed else "not passed"),
        ).as_text()

    def save(self, directory: Path) -> None:
        """Write `soak.txt`, `soak.json` and `samples.csv`.

        Raises:
            StorageError: they cannot be written.
        """
        save_report(directory, texts={"soak.txt": self.as_text()}, values={"soak.json": self.as_json()})
        table = io.StringIO(newline="")
        writer = csv.writer(table)
        writer.writerow([part.name for part in fields(ProcessSample)])
        writer.writerows(astuple(sample) for sample in self.samples)
        write_atomically(directory / "samples.csv", table.getvalue().encode())


def growth_of(samples: Sequence[ProcessSample], frames: int) -> tuple[Growth, ...]:
    """Compute the growth after the warm-up in the longest life of each process; empty if there are too few samples."""
    found: list[Growth] = []
    warm = [sample for sample in samples if sample.ended >= _WARM_UP * frames]
    for process in dict.fromkeys(sample.process for sample in warm):
        lives: dict[int, list[ProcessSample]] = {}
        for sample in warm:
            if sample.process == process:
                lives.setdefault(sample.pid, []).append(sample)
        life = max(lives.values(), key=len)
        if len(lives) > 1:  # a restarted process has its own warm-up
            life = life[int(_WARM_UP * len(life)) :]
        if len(life) < _MIN_SAMPLES:
            return ()
        for what in ("resident_mb", "handles", "threads"):
            values = [float(getattr(sample, what)) for sample in life]
            quarter = len(values) // 4
            found.append(_growth(process, what, median(values[:quarter]), median(values[-quarter:])))
    ledger = _ledger_growth(warm)
    return (*found, ledger) if ledger is not None else ()


def _ledger_growth(warm: Sequence[ProcessSample]) -> Growth | None:
    """Compare the ledger's bytes for each frame in the first and the second half."""
    if not warm:
        return None
    first, middle, last = warm[0], warm[len(warm) // 2], warm[-1]
    if not first.ended < middle.ended < last.ended:
        return None
    before = (middle.ledger_bytes - first.ledger_bytes) / (middle.ended - first.ended)
    after = (last.ledger_bytes - middle.ledger_bytes) / (last.ended - middle.ended)
    return _growth("ledger", "bytes for each frame", before, after)


def _growth(process: str, what: str, before: float, after: float) -> Growth:
    return Growth(process, what, before, after, (after - before) / before if before else 0.0)
