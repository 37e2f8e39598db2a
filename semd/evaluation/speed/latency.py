"""`semd evaluate latency`: time and memory of a frame in torch and in the exported models, measured in one run.

Each runtime has its own process, since the number of threads is a setting of the process. The processes take turns of
a few frames, so that other load on the machine affects all of them alike. The measurement is repeated while a further
process keeps one core busy.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from semd.errors import ConfigError, ModelError
from semd.evaluation.speed.latency_worker import KINDS, MAGNIFICATION
from semd.model_store import default_directory
from semd.reporting.saving import save_report
from semd.reporting.table import Column, Remark, Row, TextTable
from semd.simulator.microscope import VirtualMicroscope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    RoundProgress = Callable[[Sequence[int], str], Iterable[int]]

_ROUNDS = 5
_IMAGES = 8
_TIMES = (
    Column(align="left"),
    Column("frame", form="{:.2f}"),
    Column("p95", form="{:.2f}"),
    Column("IQR", form="{:.2f}"),
    Column("x eager", form="{:.2f}"),
    Column("x idle", form="{:.2f}"),
    Column("bare", form="{:.2f}"),
    Column("p95", form="{:.2f}"),
    Column("IQR", form="{:.2f}"),
)
_MEMORY = (Column(align="left"), Column(form="{:.0f}"), Column(form="{:.0f}"), Column(align="left"))
_SPIN = """import os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
parent = os.getppid()
print("spinning", flush=True)
while os.getppid() == parent: pass
"""


class Spread(NamedTuple):
    """Distribution of the times of one runtime, in milliseconds.

    Attributes:
        median_ms: median.
        p95_ms: 95th percentile.
        iqr_ms: interquartile range.
    """

    median_ms: float
    p95_ms: float
    iqr_ms: float


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """Times of one runtime under one condition.

    Attributes:
        kind: name of the runtime.
        threads: number of threads of the convolutions.
        busy: True if another process kept one core busy.
        frame: from the grey frame to the score.
        bare: the convolutions alone.
        times_as_fast: median of eager torch under the same condition divided by this median.
        of_idle: this median divided by that of the same runtime without a busy core; 1 for the idle rows.
    """

    kind: str
    threads: int
    busy: bool
    frame: Spread
    bare: Spread
    times_as_fast: float
    of_idle: float


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """Result of `measure_latency`.

    Attributes:
        frames: number of frames timed for each row.
        machine: processor, number of cores, package versions.
        rows: one for each number of threads, condition and runtime.
        memory_mb: resident and peak memory of a process with one scorer after its first frames, for each runtime.
        missing: runtimes that could not be timed, with the reason.
    """

    frames: int
    machine: dict[str, Any]
    rows: tuple[LatencyRow, ...]
    memory_mb: dict[str, dict[str, float | None]]
    missing: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return the values for `--json`."""
        values = asdict(self)
        for row, stored in zip(self.rows, values["rows"], strict=True):
            stored |= {"frame": row.frame._asdict(), "bare": row.bare._asdict()}
        return values

    def as_text(self) -> str:
        """Format the table for a terminal, with times in milliseconds."""
        parts = []
        for threads, busy in sorted({(row.threads, row.busy) for row in self.rows}):
            condition = "one core kept busy by another process" if busy else "nothing else started"
            times = TextTable(
                columns=_TIMES,
                rows=tuple(
                    (row.kind, *row.frame, row.times_as_fast, row.of_idle, *row.bare)
                    for row in self.rows
                    if (row.threads, row.busy) == (threads, busy)
                ),
                title=(f"{threads} thread{'s' * (threads > 1)}, {condition}; ms",),
            )
            parts.append(times.as_text())
        measured: list[Row] = [(kind, *memory.values(), "at most") for kind, memory in self.memory_mb.items()]
        missing: list[Row] = [(kind, Remark(f"not timed: {reason}")) for kind, reason in self.missing.items()]
        memory = TextTable(_MEMORY, (*measured, *missing), title=("memory of a process with one scorer, MB",))
        machine = ", ".join(f"{key} {value}" for key, value in self.machine.items())
        return "\n\n".join([*parts, memory.as_text(), machine]).strip()


def measure_latency(models: Path | None, frames: int, threads: tuple[int, ...], track: RoundProgress) -> LatencyReport:
    """Time every runtime with every number of threads.

    Args:
        models: folder with the manifest; None for the weights that came with semd.
        frames: number of frames for each row, at least 5.
        threads: numbers of threads.
        track: progress display that passes the rounds through.

    Raises:
        ConfigError: a number of threads is below 1.
        ModelError: there is no scorer, or a process ended before it answered; its output is on standard error.
    """
    if min(threads) < 1:
        raise ConfigError(f"threads must be at least 1, not {min(threads)}")
    per_turn = max(frames // _ROUNDS, 1)
    rows: list[LatencyRow] = []
    memory: dict[str, dict[str, float | None]] = {}
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="semd-latency-") as name:
        frames_path = Path(name) / "frames.npy"
        np.save(frames_path, _images(), allow_pickle=False)
        for count in threads:
            with _workers(models or default_directory(), count, frames_path, missing) as workers:
                if not memory:
                    memory = {worker.kind: worker.memory_mb for worker in workers}
                idle = _take_turns(workers, per_turn, track, f"{count} threads")
                with _busy_core():
                    busy = _take_turns(workers, per_turn, track, f"{count} threads, a core busy")
            rows += _rows(count, idle, idle, busy=False)
            rows += _rows(count, busy, idle, busy=True)
    return LatencyReport(per_turn * _ROUNDS, _machine(), tuple(rows), memory, missing)


def save_latency(report: LatencyReport, directory: Path) -> None:
    """Write `latency.json` and `latency.txt`; create the folder.

    Raises:
        StorageError: the files cannot be written.
    """
    save_report(directory, texts={"latency.txt": report.as_text()}, values={"latency.json": report.as_json()})


class _Times(NamedTuple):
    """Times of the frames in milliseconds."""

    frame: list[float]
    bare: list[float]


class _TimedProcess:
    """A process with one scorer."""

    def __init__(self, kind: str, process: subprocess.Popen[str]) -> None:
        self.kind = kind
        self._process = process
        self.memory_mb: dict[str, float | None] = {}

    def begin(self) -> str | None:
        """Wait until the scorer is warmed up; return the reason if it cannot run."""
        answer = self._read_answer()
        if "missing" in answer:
            return str(answer["missing"])
        self.memory_mb = answer
        return None

    def time(self, frames: int) -> _Times:
        """Time some frames."""
        with suppress(BrokenPipeError):  # the process has ended; `_read_answer` raises the error
            print(frames, file=self._pipe(self._process.stdin), flush=True)
        answer = self._read_answer()
        return _Times(answer["frame_ms"], answer["bare_ms"])

    def _read_answer(self) -> dict[str, Any]:
        line = self._pipe(self._process.stdout).readline()
        if not line:
            raise ModelError(f"the process that times {self.kind!r} ended; its output is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        if pipe is None:
            raise ModelError("a process was started without pipes")
        return pipe


@contextmanager
def _workers(directory: Path, threads: int, frames: Path, missing: dict[str, str]) -> Iterator[list[_TimedProcess]]:
    """Start a process for each runtime and yield the warmed-up ones; add the reasons of the others to `missing`."""
    with ExitStack() as stack:
        begun = []
        for kind in KINDS:
            arguments = ["-m", "semd.evaluation.speed.latency_worker", kind, str(threads), str(directory), str(frames)]
            worker = _TimedProcess(kind, stack.enter_context(_process(arguments)))
            reason = worker.begin()
            if reason is None:
                begun.append(worker)
            elif kind == KINDS[0]:
                raise ModelError(reason)
            else:
                missing[kind] = reason
        yield begun


@contextmanager
def _process(arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(  # noqa: S603
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()
            if process.stdin is not None:
                with suppress(BrokenPipeError):  # the process may have ended with unsent input
                    process.stdin.close()


@contextmanager
def _busy_core() -> Iterator[None]:
    """Run a process that keeps one core busy."""
    with _process(["-c", _SPIN]) as process:
        if process.stdout is not None:
            process.stdout.readline()
        yield


def _take_turns(workers: list[_TimedProcess], frames: int, track: RoundProgress, doing: str) -> dict[str, _Times]:
    times = {worker.kind: _Times([], []) for worker in workers}
    for _ in track(range(_ROUNDS), doing):
        for worker in workers:
            for known, new in zip(times[worker.kind], worker.time(frames), strict=True):
                known.extend(new)
    return times


def _rows(threads: int, times: dict[str, _Times], idle: dict[str, _Times], *, busy: bool) -> list[LatencyRow]:
    eager = np.median(times[KINDS[0]].frame)
    return [
        LatencyRow(
            kind=kind,
            threads=threads,
            busy=busy,
            frame=_spread(taken.frame),
            bare=_spread(taken.bare),
            times_as_fast=round(float(eager / np.median(taken.frame)), 3),
            of_idle=round(float(np.median(taken.frame) / np.median(idle[kind].frame)), 3),
        )
        for kind, taken in times.items()
    ]


def _spread(times_ms: list[float]) -> Spread:
    low, median, high, late = (float(value) for value in np.percentile(times_ms, (25, 50, 75, 95)))
    return Spread(round(median, 3), round(late, 3), round(high - low, 3))


def _images() -> NDArray[np.uint8]:
    microscope = VirtualMicroscope("tinball", MAGNIFICATION, 1)
    images = []
    for wd_mm in np.linspace(9.0, 11.0, _IMAGES):
        microscope.apply(wd_mm=float(wd_mm), brightness=50.0, contrast=50.0)
        images.append(microscope.scan().image)
    return np.stack(images)


def _machine() -> dict[str, Any]:
    machine: dict[str, Any] = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    for package in ("torch", "onnxruntime"):
        try:
            machine[package] = version(package)
        except PackageNotFoundError:
            machine[package] = "absent"
    return machine
