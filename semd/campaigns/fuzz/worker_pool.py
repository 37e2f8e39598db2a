"""Pool of worker processes of a campaign; a thread for each detects a hung or dead process and starts another."""

from __future__ import annotations

import json
import select
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from semd.campaigns.fuzz.fuzz_worker import AT_FILE, DEATH_FILE, Block, Finding

_LOOK_S = 0.2
_HANG_FACTOR = 10
"""An input hangs after this multiple of its CPU limit in wall-clock time; other programs may share the CPU."""
_LEAST_HANG_S = 20.0
_START_S = 300.0
_LAST_WORDS = 2000


@dataclass(frozen=True, slots=True)
class Job:
    """Block of inputs of one target, or the rest of a block.

    Attributes:
        target: name of the target.
        number: number of the block.
        first, count: index of the first input and number of inputs.
    """

    target: str
    number: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class JobResult:
    """Result of a job.

    Attributes:
        job: the job that is done.
        block: totals and findings.
        rest: remaining inputs of the job after one that killed the worker, otherwise None.
    """

    job: Job
    block: Block
    rest: Job | None = None


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Settings that workers are started with; see `FuzzSpec`."""

    table: str
    corpus: Path
    seed: int
    memory_mb: int
    limit_s: float


class WorkerError(Exception):
    """A worker ended before its first input; the message is its last output."""


class WorkerPool:
    """Pool of threads with one worker process each.

    Args:
        settings: settings of the workers.
        jobs: the jobs, taken from the left.
        workers: number of workers.
        scratch: empty folder for the working folders.
    """

    def __init__(self, settings: WorkerSettings, jobs: deque[Job], workers: int, scratch: Path) -> None:
        self._terms = settings
        self._tasks = jobs
        self._scratch = scratch
        self._stop = threading.Event()
        self._results: SimpleQueue[JobResult | BaseException | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(workers)]

    def results(self) -> Iterator[JobResult]:
        """Start the threads and yield the results until all jobs are done.

        Raises:
            WorkerError: a worker ended before its first input.
        """
        for thread in self._threads:
            thread.start()
        working = len(self._threads)
        while working:
            found = self._results.get()
            if found is None:
                working -= 1
            elif isinstance(found, BaseException):
                raise found
            else:
                yield found

    def stop(self) -> None:
        """Stop all workers; the results of their present jobs are lost."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _work(self, number: int) -> None:
        worker: _FuzzWorker | None = None
        lives = 0
        try:
            while not self._stop.is_set():
                try:
                    job: Job | None = self._tasks.popleft()
                except IndexError:
                    break
                while job is not None and not self._stop.is_set():
                    if worker is None:
                        worker = _FuzzWorker(self._terms, self._scratch / f"{number}-{lives}", self._stop)
                        lives += 1
                    done = worker.do(job)
                    if done is None:
                        return  # told to stop
                    if done.rest is not None or done.block.inputs < job.count:
                        worker.end()
                        worker = None
                    self._results.put(done)
                    job = done.rest
        except (WorkerError, OSError) as error:
            self._results.put(error)
        finally:
            if worker is not None:
                worker.end()
            self._results.put(None)


class _FuzzWorker:
    """Handle of one worker process."""

    def __init__(self, settings: WorkerSettings, folder: Path, stop: threading.Event) -> None:
        self._terms = settings
        self._folder = folder
        self._stop = stop
        folder.mkdir()
        arguments = [settings.table, settings.corpus, settings.seed, folder, settings.memory_mb, settings.limit_s]
        self._errors = (folder / "errors.txt").open("wb")
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "semd.campaigns.fuzz.fuzz_worker", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    def do(self, job: Job) -> JobResult | None:
        """Run a job; return None if the pool was stopped meanwhile."""
        order = {"target": job.target, "first": job.first, "count": job.count}
        before = self._at()
        try:
            self._input.write(json.dumps(order).encode() + b"\n")
            self._input.flush()
        except BrokenPipeError:
            raise WorkerError(self._last_words()) from None
        hang_s = max(_HANG_FACTOR * self._terms.limit_s, _LEAST_HANG_S)
        seen, since_s = before, time.monotonic()
        while not self._stop.is_set():
            if select.select([self._output], [], [], _LOOK_S)[0]:
                line = self._output.readline()
                return self._read(job, line) if line else self._lost(job, "died", before[0])
            now = self._at()
            if now != seen:
                seen, since_s = now, time.monotonic()
            elif time.monotonic() - since_s > (hang_s if now[0] > before[0] else _START_S):  # it may load libraries
                self._process.kill()
                return self._lost(job, "hung", before[0])
        return None

    def end(self) -> None:
        """Kill the process and close its pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._input, self._output):
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # an order that it did not live to read
        self._errors.close()

    @property
    def _input(self) -> Any:
        return self._process.stdin

    @property
    def _output(self) -> Any:
        return self._process.stdout

    def _at(self) -> tuple[int, int]:
        """Read the number of inputs begun and the index of the present one; zeros before the first."""
        try:
            raw = (self._folder / AT_FILE).read_bytes()
        except FileNotFoundError:
            return 0, 0
        begun, index = struct.unpack("<qq", raw) if len(raw) == 16 else (0, 0)
        return begun, index

    def _read(self, job: Job, line: bytes) -> JobResult:
        found = json.loads(line)
        findings = [Finding(**finding) for finding in found.pop("findings")]
        return JobResult(job, Block(**found, findings=findings))

    def _lost(self, job: Job, kind: str, begun_before: int) -> JobResult:
        """Make the result of a job with an input that killed the worker or hung."""
        status = self._process.wait()
        begun, index = self._at()
        if begun == begun_before:
            raise WorkerError(self._last_words())
        where = f"signal {-status}" if kind == "died" and status < 0 else f"exit status {status}"
        finding = Finding(job.target, index, kind, "time" if kind == "hung" else where, self._last_words())
        fed = index - job.first + 1
        block = Block(inputs=fed, findings=[finding])
        left = job.count - fed
        return JobResult(job, block, Job(job.target, job.number, index + 1, left) if left else None)

    def _last_words(self) -> str:
        words = []
        for name in (DEATH_FILE, "errors.txt"):
            path = self._folder / name
            if path.exists():
                with path.open("rb") as file:
                    file.seek(max(0, path.stat().st_size - _LAST_WORDS))
                    words.append(file.read().decode("utf-8", "replace"))
        return "\n".join(words).strip() or "it said nothing"
