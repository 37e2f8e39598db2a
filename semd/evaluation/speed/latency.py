"""`semd evaluate latency`: what a frame costs in torch and in the exported models, side by side in one run.

Every kind has a process of its own, for threads are settings of a process. The processes take turns, a few frames
each, so that whatever else the machine does falls on all of them alike. Then the same again while a further process
keeps one core busy.
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
from semd.simulator.microscope import VirtualMicroscope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    Track = Callable[[Sequence[int], str], Iterable[int]]

_ROUNDS = 5
_IMAGES = 8
_SPIN = """import os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
parent = os.getppid()
print("spinning", flush=True)
while os.getppid() == parent: pass
"""


class Spread(NamedTuple):
    """Times of one kind in milliseconds.

    Attributes:
        median_ms: half of the frames take less.
        p95_ms: 95 % of the frames take less.
        iqr_ms: width of the middle half.
    """

    median_ms: float
    p95_ms: float
    iqr_ms: float


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """One kind under one condition.

    Attributes:
        kind: what runs the network.
        threads: of the convolutions.
        busy: True where another process kept one core busy.
        frame: from the grey frame to the judgement.
        bare: the convolutions alone, the limit of what could be gained around them.
        times_as_fast: eager torch's median of a frame under the same condition over this one's.
        of_idle: this median over the same kind's while no other process was busy; 1 for these themselves.
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
    """All of it.

    Attributes:
        frames: frames timed for each row.
        machine: processor, number of cores, versions.
        rows: by threads, condition and kind.
        memory_mb: of a process with one scorer on one thread after its first frames, resident and peak, for each kind.
        missing: kinds that could not be timed, with the reason.
    """

    frames: int
    machine: dict[str, Any]
    rows: tuple[LatencyRow, ...]
    memory_mb: dict[str, dict[str, float | None]]
    missing: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        values = asdict(self)
        for row, stored in zip(self.rows, values["rows"], strict=True):
            stored |= {"frame": row.frame._asdict(), "bare": row.bare._asdict()}
        return values

    def as_text(self) -> str:
        """As a table, times in milliseconds."""
        title = f"{'':22}{'frame':>9}{'p95':>9}{'IQR':>8}{'x eager':>9}{'x idle':>8}{'bare':>9}{'p95':>9}{'IQR':>8}"
        lines = []
        for threads, busy in sorted({(row.threads, row.busy) for row in self.rows}):
            condition = "one core kept busy by another process" if busy else "nothing else started"
            lines += ["", f"{threads} thread{'s' * (threads > 1)}, {condition}; ms", title]
            for row in self.rows:
                if (row.threads, row.busy) == (threads, busy):
                    frame, bare = (f"{s.median_ms:9.2f}{s.p95_ms:9.2f}{s.iqr_ms:8.2f}" for s in (row.frame, row.bare))
                    lines.append(f"{row.kind:22}{frame}{row.times_as_fast:9.2f}{row.of_idle:8.2f}{bare}")
        lines += ["", "memory of a process with one scorer, MB"]
        for kind, memory in self.memory_mb.items():
            resident, peak = (f"{value:9.0f}" if value is not None else f"{'-':>9}" for value in memory.values())
            lines.append(f"{kind:22}{resident}{peak} at most")
        lines += [f"{kind:22}not timed: {reason}" for kind, reason in self.missing.items()]
        return "\n".join([*lines, "", ", ".join(f"{key} {value}" for key, value in self.machine.items())]).strip()


def measure_latency(models: Path | None, frames: int, threads: tuple[int, ...], track: Track) -> LatencyReport:
    """Time every kind of scorer with every number of threads.

    Args:
        models: folder with the manifest; None for the weights that came with semd.
        frames: frames for each row, at least 5.
        threads: numbers of threads.
        track: hands numbers through and shows progress.

    Raises:
        ConfigError: a number of threads below 1.
        ModelError: there is no scorer, or a process ended before it answered; what it said is on standard error.
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
    """Write `latency.json` and `latency.txt`; the folder is created.

    Raises:
        StorageError: they cannot be written.
    """
    save_report(directory, texts={"latency.txt": report.as_text()}, values={"latency.json": report.as_json()})


class _Times(NamedTuple):
    """Milliseconds of every frame."""

    frame: list[float]
    bare: list[float]


class _Worker:
    """A process with one scorer."""

    def __init__(self, kind: str, process: subprocess.Popen[str]) -> None:
        self.kind = kind
        self._process = process
        self.memory_mb: dict[str, float | None] = {}

    def begin(self) -> str | None:
        """Wait until it is warm; returns why it cannot run, if so."""
        said = self._hear()
        if "missing" in said:
            return str(said["missing"])
        self.memory_mb = said
        return None

    def time(self, frames: int) -> _Times:
        """Let it judge some frames."""
        with suppress(BrokenPipeError):  # it has ended; hearing says so
            print(frames, file=self._pipe(self._process.stdin), flush=True)
        said = self._hear()
        return _Times(said["frame_ms"], said["bare_ms"])

    def _hear(self) -> dict[str, Any]:
        line = self._pipe(self._process.stdout).readline()
        if not line:
            raise ModelError(f"the process that times {self.kind!r} ended; what it said stands above")
        said: dict[str, Any] = json.loads(line)
        return said

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        if pipe is None:
            raise ModelError("a process was started without pipes")
        return pipe


@contextmanager
def _workers(directory: Path, threads: int, frames: Path, missing: dict[str, str]) -> Iterator[list[_Worker]]:
    """Warm processes of all kinds that can run; the reasons of the others go into `missing`."""
    with ExitStack() as stack:
        begun = []
        for kind in KINDS:
            arguments = ["-m", "semd.evaluation.speed.latency_worker", kind, str(threads), str(directory), str(frames)]
            worker = _Worker(kind, stack.enter_context(_process(arguments)))
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
                with suppress(BrokenPipeError):  # what was not sent to a process that ended before
                    process.stdin.close()


@contextmanager
def _busy_core() -> Iterator[None]:
    """A process that computes all the time."""
    with _process(["-c", _SPIN]) as process:
        if process.stdout is not None:
            process.stdout.readline()
        yield


def _take_turns(workers: list[_Worker], frames: int, track: Track, doing: str) -> dict[str, _Times]:
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
