"""Worker process of the fuzzing campaign, which a bad input may kill without ending the campaign.

Arguments: the table of targets as `module:name`, the corpus, the seed, a working folder, the memory cap in MB and the
CPU limit of an input in seconds. It reads jobs from standard input and writes results to standard output, one JSON
object on a line. The file `at` in the working folder holds the number of inputs begun and the index of the present one,
and outlives the process.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import logging
import mmap
import os
import resource
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from semd.campaigns.fuzz.mutators import make_input
from semd.campaigns.fuzz.targets import BrokenPromiseError, Reader, Target, read_corpus
from semd.errors import SemdError
from semd.service.memory import peak_memory_mb

AT_FILE, DEATH_FILE = "at", "death.txt"
_OUT_OF_MEMORY = -4
"""OpenCV's error code `StsNoMem`."""
_LONGEST_TEXT = 2000


@dataclass(frozen=True, slots=True)
class Finding:
    """Input that broke the promise of a reader.

    Attributes:
        target: name of the target.
        index: index of the input; with target, seed and corpus it reproduces the input.
        kind: `escaped` (an exception other than `SemdError`), `broken-promise`, `memory`, `slow`, `hung` or `died`.
        where: line that raised the error, or the cause of the process's end; findings with one `where` are one fault.
        text: traceback or other details.
    """

    target: str
    index: int
    kind: str
    where: str
    text: str


@dataclass(slots=True)
class Block:
    """Result of a block of inputs for one target.

    Attributes:
        inputs: number of inputs run.
        accepted: number of inputs read without an error.
        cpu_s: total CPU time.
        slowest_s: CPU time of the slowest input.
        slowest_index: index of the slowest input.
        findings: the findings.
        peak_mb: largest resident memory of the process so far.
    """

    inputs: int = 0
    accepted: int = 0
    cpu_s: float = 0.0
    slowest_s: float = 0.0
    slowest_index: int = 0
    findings: list[Finding] = field(default_factory=list)
    peak_mb: float | None = None


def run_block(
    target: Target,
    reader: Reader,
    corpus: Sequence[bytes],
    seed: int,
    numbers: range,
    *,
    limit_s: float,
    at: Callable[[int], None] = lambda _: None,
) -> Block:
    """Run a block of inputs through a reader.

    Args:
        target: target of the reader.
        reader: reader made by `target.open`.
        corpus: corpus of the target.
        seed: seed of the campaign.
        numbers: indices of the inputs.
        limit_s: limit of the CPU time of an input.
        at: called with the index of each input before it is run.
    """
    block = Block()
    for index in numbers:
        at(index)
        data = target.finish(make_input(target.name, corpus, seed, index, is_text=target.is_text))
        begun_s = time.process_time()
        accepted, found = _read(reader, data)
        block.accepted += accepted
        took_s = time.process_time() - begun_s
        block.inputs += 1
        block.cpu_s += took_s
        if took_s > block.slowest_s:
            block.slowest_s, block.slowest_index = took_s, index
        if found is not None:
            kind, error = found
            text = "".join(traceback.format_exception(error))[-_LONGEST_TEXT:]
            block.findings.append(Finding(target.name, index, kind, _where(error), text))
        elif took_s > limit_s:
            block.findings.append(Finding(target.name, index, "slow", "time", f"{took_s:.3f} s of CPU"))
    block.peak_mb = peak_memory_mb()
    return block


def _read(reader: Reader, data: bytes) -> tuple[bool, tuple[str, BaseException] | None]:
    """Run one input; return whether it was read without an error, and the kind and error of a finding."""
    try:
        reader(data)
    except SemdError as error:
        return False, ("memory", error) if _ran_out(error) else None
    except BrokenPromiseError as error:
        return False, ("broken-promise", error)
    except MemoryError as error:
        return False, ("memory", error)
    except Exception as error:  # noqa: BLE001 - the campaign looks for such errors
        return False, ("memory" if _ran_out(error) else "escaped", error)
    return True, None


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _ran_out(error: BaseException) -> bool:
    """Return True if the memory cap caused the error, even if it was reported as a damaged file."""
    return any(isinstance(link, MemoryError) or getattr(link, "code", 0) == _OUT_OF_MEMORY for link in _chain(error))


def _where(error: BaseException) -> str:
    """Describe the error by its type and the innermost line of semd in its traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/semd/" in frame.filename and "/fuzz/" not in frame.filename]
    frame = (ours or frames)[-1]
    return f"{type(error).__name__} in {Path(frame.filename).name}:{frame.lineno} {frame.name}"


def find_targets(table: str) -> dict[str, Target]:
    """Load the targets of a table given as `module:name`, by their names."""
    module, _, name = table.partition(":")
    targets: Sequence[Target] = getattr(importlib.import_module(module), name)
    return {target.name: target for target in targets}


class _At:
    """Shared file with the number of inputs begun and the index of the present one, which outlives the process."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(16))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 16)
        self._begun = 0

    def __call__(self, index: int) -> None:
        self._begun += 1
        struct.pack_into("<qq", self._shared, 0, self._begun, index)


def _cap_memory(megabytes: int) -> None:
    """Limit the memory of this process to `megabytes` beyond its present size."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0]) if Path("/proc/self/statm").exists() else 0
    cap = pages * os.sysconf("SC_PAGE_SIZE") + megabytes * (1 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (cap, cap))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(table: str, corpus: str, seed: str, folder: str, memory_mb: str, limit_s: str) -> None:
    """Run jobs until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is handled by the parent process
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # keep the output of libraries apart from the results
    logging.disable()  # libraries log every damaged file
    scratch = Path(folder)
    with (scratch / DEATH_FILE).open("w") as death:
        faulthandler.enable(death)
        targets, at = find_targets(table), _At(scratch / AT_FILE)
        opened: dict[str, tuple[Reader, list[bytes]]] = {}
        _cap_memory(int(memory_mb))
        for line in sys.stdin:
            order: dict[str, Any] = json.loads(line)
            target = targets[order["target"]]
            if target.name not in opened:
                own = scratch / target.name
                own.mkdir()
                opened[target.name] = target.open(own), read_corpus(Path(corpus), target)
            reader, files = opened[target.name]
            numbers = range(order["first"], order["first"] + order["count"])
            block = run_block(target, reader, files, int(seed), numbers, limit_s=float(limit_s), at=at)
            print(json.dumps(asdict(block)), file=answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
