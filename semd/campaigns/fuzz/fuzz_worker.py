"""A process that feeds inputs to targets and dies of a bad one in the campaign's place.

Arguments: the table of targets as `module:name`, the corpus, the seed, a folder of its own, its memory in MB and its
seconds of CPU for an input. It takes orders on standard input and answers on standard output, a JSON object a line.
How many inputs it has begun and the number of the present one lie in the file `at` of its folder, which outlives it.
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
"""OpenCV's word for it."""
_LONGEST_TEXT = 2000


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that did what none may do.

    Attributes:
        target: which reader.
        index: of the input; with target, seed and corpus it makes the input again.
        kind: `escaped` (an error that is not ours), `broken-promise`, `memory`, `slow`, `hung` or `died`.
        where: the line it came from, or what ended the process; findings of one `where` are one fault.
        text: the traceback, or what else is known.
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
        inputs: fed.
        accepted: read without an error.
        cpu_s: taken by all of them.
        slowest_s: CPU time of the slowest.
        slowest_index: which that was.
        findings: see there.
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
    """Feed these inputs to a reader.

    Args:
        target: the reader's.
        reader: `target.open` made it.
        corpus: of the target.
        seed: of the campaign.
        numbers: which inputs.
        limit_s: CPU time that an input may take.
        at: told of each input before it is fed.
    """
    block = Block()
    for index in numbers:
        at(index)
        data = target.finish(make_input(target.name, corpus, seed, index, is_text=target.is_text))
        begun_s = time.process_time()
        found: tuple[str, BaseException] | None = None
        try:
            reader(data)
            block.accepted += 1
        except SemdError as error:
            found = ("memory", error) if _ran_out(error) else None
        except BrokenPromiseError as error:
            found = ("broken-promise", error)
        except MemoryError as error:
            found = ("memory", error)
        except Exception as error:  # noqa: BLE001 - to find these is what this is for
            found = ("memory" if _ran_out(error) else "escaped", error)
        took_s = time.process_time() - begun_s
        block.inputs += 1
        block.cpu_s += took_s
        if took_s > block.slowest_s:
            block.slowest_s, block.slowest_index = took_s, index
        if found is not None:
            kind, escaped = found
            text = "".join(traceback.format_exception(escaped))[-_LONGEST_TEXT:]
            block.findings.append(Finding(target.name, index, kind, _where(escaped), text))
        elif took_s > limit_s:
            block.findings.append(Finding(target.name, index, "slow", "time", f"{took_s:.3f} s of CPU"))
    block.peak_mb = peak_memory_mb()
    return block


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _ran_out(error: BaseException) -> bool:
    """Return True if the memory cap is behind it, also where it was taken for a damaged file."""
    return any(isinstance(link, MemoryError) or getattr(link, "code", 0) == _OUT_OF_MEMORY for link in _chain(error))


def _where(error: BaseException) -> str:
    """The innermost line of our own that the error came through, and its kind."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/semd/" in frame.filename and "/fuzz/" not in frame.filename]
    frame = (ours or frames)[-1]
    return f"{type(error).__name__} in {Path(frame.filename).name}:{frame.lineno} {frame.name}"


def find_targets(table: str) -> dict[str, Target]:
    """The targets of a table named as `module:name`, by their names."""
    module, _, name = table.partition(":")
    targets: Sequence[Target] = getattr(importlib.import_module(module), name)
    return {target.name: target for target in targets}


class _At:
    """Number of inputs begun and the number of the present one, kept where they outlive the process."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(16))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 16)
        self._begun = 0

    def __call__(self, index: int) -> None:
        self._begun += 1
        struct.pack_into("<qq", self._shared, 0, self._begun, index)


def _cap_memory(megabytes: int) -> None:
    """Let this process have so much beyond what its libraries have taken already."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0]) if Path("/proc/self/statm").exists() else 0
    cap = pages * os.sysconf("SC_PAGE_SIZE") + megabytes * (1 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (cap, cap))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(table: str, corpus: str, seed: str, folder: str, memory_mb: str, limit_s: str) -> None:
    """Obey orders until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the process that started this one
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    logging.disable()  # nor is what they log about damaged files of any use here
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
