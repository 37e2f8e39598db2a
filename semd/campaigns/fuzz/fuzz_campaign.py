"""Fuzzing campaign: blocks of inputs are distributed to worker processes that may die; progress is stored."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from semd.campaigns.fuzz.fuzz_report import Figures, FuzzReport, fault_of
from semd.campaigns.fuzz.fuzz_worker import Finding, find_targets
from semd.campaigns.fuzz.mutators import make_input
from semd.campaigns.fuzz.targets import Target, read_corpus
from semd.campaigns.fuzz.worker_pool import Job, JobResult, WorkerError, WorkerPool, WorkerSettings
from semd.errors import ConfigError
from semd.service.storage import storage_error, write_atomically

TABLE = "semd.campaigns.fuzz.targets:TARGETS"
PROGRESS_FILE = "progress.json"
_BLOCK = 500
_SAVE_S = 10.0


@dataclass(frozen=True, slots=True)
class FuzzSpec:
    """Settings of the campaign.

    Attributes:
        inputs: smallest number of inputs in all, distributed by the shares of the targets.
        seed: seed of the inputs.
        corpus: folder of the corpus, with a subfolder for each target.
        workers: number of processes.
        only: names of targets; empty for all.
        out: folder of the stored progress, which is continued, and of the findings; None to store nothing.
        memory_mb: memory cap of a process beyond its libraries.
        limit_s: limit of the CPU time of an input.
        table: table of the targets, as `module:name`.
    """

    inputs: int
    seed: int
    corpus: Path
    workers: int = 2
    only: tuple[str, ...] = ()
    out: Path | None = None
    memory_mb: int = 1024
    limit_s: float = 2.0
    table: str = TABLE


@dataclass(slots=True)
class _Progress:
    """State of the campaign, kept in a file between sittings."""

    done: dict[str, set[int]] = field(default_factory=dict)
    figures: dict[str, Figures] = field(default_factory=dict)
    findings: dict[str, Finding] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def run_campaign(spec: FuzzSpec, advance: Callable[[int], None]) -> FuzzReport:
    """Run the blocks that no earlier sitting has run; after Ctrl+C the progress is stored and returned.

    Args:
        spec: settings of the campaign.
        advance: called with the number of further inputs that have been run.

    Raises:
        ConfigError: a target or the corpus is missing, the folder holds another campaign, or the system has no memory
            caps.
        StorageError: the folder cannot be written.
    """
    if sys.platform == "win32":
        raise ConfigError("fuzzing needs the memory caps of Linux; run it there")
    targets = find_targets(spec.table)
    unknown = [name for name in spec.only if name not in targets]
    if unknown:
        raise ConfigError(f"unknown target {unknown[0]!r}; known targets: {', '.join(targets)}")
    chosen = [target for name, target in targets.items() if not spec.only or name in spec.only]
    corpora = {target.name: read_corpus(spec.corpus, target) for target in chosen}
    digest = _digest(corpora)
    progress = _load(spec, digest)
    jobs = deque(_plan(spec, chosen, progress))
    advance(sum(figures.inputs for figures in progress.figures.values()))
    interrupted = _run_jobs(spec, jobs, progress, digest, advance)
    order = [target.name for target in chosen if target.name in progress.figures]
    report = FuzzReport(
        seed=spec.seed,
        corpus_sha256=digest,
        seconds=progress.seconds,
        interrupted=interrupted,
        memory_mb=spec.memory_mb,
        limit_s=spec.limit_s,
        figures={name: progress.figures[name] for name in order},
        findings=tuple(progress.findings.values()),
        counts=progress.counts,
    )
    if spec.out is not None:
        _save(spec, digest, progress)
        ours = [finding for finding in report.findings if finding.target in corpora]
        report.save(spec.out, {finding: _input_of(finding, targets, corpora, spec.seed) for finding in ours})
    return report


def _run_jobs(
    spec: FuzzSpec, jobs: deque[Job], progress: _Progress, digest: str, advance: Callable[[int], None]
) -> bool:
    """Run jobs in worker processes, add their results to the progress and store it; return True after Ctrl+C."""
    begun_s, before_s = time.monotonic(), progress.seconds
    interrupted = False
    with tempfile.TemporaryDirectory(prefix="semd-fuzz-") as scratch:
        settings = WorkerSettings(spec.table, spec.corpus, spec.seed, spec.memory_mb, spec.limit_s)
        pool = WorkerPool(settings, jobs, spec.workers, Path(scratch))
        try:
            saved_s = begun_s
            for done in pool.results():
                _take(progress, done)
                advance(done.block.inputs)
                progress.seconds = before_s + time.monotonic() - begun_s
                if time.monotonic() - saved_s > _SAVE_S:
                    _save(spec, digest, progress)
                    saved_s = time.monotonic()
        except KeyboardInterrupt:
            interrupted = True
        except WorkerError as error:
            raise ConfigError(f"a worker ended before its first input: {error}") from error
        finally:
            pool.stop()
    progress.seconds = before_s + time.monotonic() - begun_s
    return interrupted


def _input_of(finding: Finding, targets: dict[str, Target], corpora: dict[str, list[bytes]], seed: int) -> bytes:
    target = targets[finding.target]
    return target.finish(make_input(target.name, corpora[target.name], seed, finding.index, is_text=target.is_text))


def _digest(corpora: dict[str, list[bytes]]) -> str:
    found = hashlib.sha256()
    for name in sorted(corpora):
        found.update(name.encode())
        for data in corpora[name]:
            found.update(hashlib.sha256(data).digest())
    return found.hexdigest()


def _plan(spec: FuzzSpec, targets: Sequence[Target], progress: _Progress) -> list[Job]:
    """List the remaining blocks, interleaved over the targets; blocks are whole, so that a campaign can be extended."""
    shares = sum(target.share for target in targets)
    jobs: list[tuple[float, Job]] = []
    for target in targets:
        size = _BLOCK if spec.inputs >= _BLOCK * len(targets) else max(1, spec.inputs // len(targets))
        blocks = -(-spec.inputs * target.share // (shares * size))
        done = progress.done.get(target.name, set())
        jobs += [
            ((number + 0.5) / blocks, Job(target.name, number, number * size, size))
            for number in range(blocks)
            if number not in done
        ]
    return [job for _, job in sorted(jobs, key=lambda pair: pair[0])]


def _take(progress: _Progress, done: JobResult) -> None:
    job, block = done.job, done.block
    figures = progress.figures.setdefault(job.target, Figures())
    figures.inputs += block.inputs
    figures.accepted += block.accepted
    figures.cpu_s += block.cpu_s
    figures.findings += len(block.findings)
    if block.slowest_s > figures.slowest_s:
        figures.slowest_s, figures.slowest_index = block.slowest_s, block.slowest_index
    if block.peak_mb is not None:
        figures.peak_mb = max(figures.peak_mb or 0.0, block.peak_mb)
    for finding in block.findings:
        progress.findings.setdefault(fault_of(finding), finding)
        progress.counts[fault_of(finding)] += 1
    if done.rest is None:
        progress.done.setdefault(job.target, set()).add(job.number)


def _load(spec: FuzzSpec, digest: str) -> _Progress:
    progress = _Progress()
    path = spec.out / PROGRESS_FILE if spec.out is not None else None
    if path is None or not path.exists():
        return progress
    try:
        kept: dict[str, Any] = json.loads(path.read_bytes())
        if (kept["seed"], kept["corpus_sha256"]) != (spec.seed, digest):
            raise ConfigError(f"{path.parent}: holds a campaign of another seed, corpus or targets: name another --out")
        progress.done = {name: set(numbers) for name, numbers in kept["done"].items()}
        progress.figures = {name: Figures(**values) for name, values in kept["figures"].items()}
        progress.findings = {name: Finding(**values) for name, values in kept["findings"].items()}
        progress.counts = Counter(kept["counts"])
        progress.seconds = float(kept["seconds"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: not the progress of a campaign ({error}): name another --out") from error
    except OSError as error:
        raise storage_error(path, "read", error) from error
    return progress


def _save(spec: FuzzSpec, digest: str, progress: _Progress) -> None:
    if spec.out is None:
        return
    try:
        spec.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(spec.out, "create", error) from error

    kept = {
        "seed": spec.seed,
        "corpus_sha256": digest,
        "seconds": progress.seconds,
        "done": {name: sorted(numbers) for name, numbers in progress.done.items()},
        "figures": {name: asdict(figures) for name, figures in progress.figures.items()},
        "findings": {name: asdict(finding) for name, finding in progress.findings.items()},
        "counts": dict(progress.counts),
    }
    write_atomically(spec.out / PROGRESS_FILE, json.dumps(kept).encode())
