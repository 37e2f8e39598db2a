"""Reader of the audit trail: the newest commands with their answers, in bounded memory."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semd.service.storage import storage_error

_LONGEST_LINE_BYTES = 1 << 14
_SENDING_KEYS = ("at", "id", "seq", "frame", "status", "targets", "command", "bytes", "sha256")


@dataclass(frozen=True, slots=True)
class SentCommand:
    """One command of the audit trail.

    Attributes:
        at: time just before it was sent, RFC 3339 in UTC.
        id, seq, frame, status, targets: fields of its action.
        command: the command as text in the `aisem` dialect, otherwise empty.
        bytes, sha256: length and SHA-256 digest of the bytes for the socket.
        answer: the answer of the SEM, or the reason why there is none; None if the trail has no answer line.
        latency_ms: time from sending to answer in milliseconds.
    """

    at: str
    id: str
    seq: int
    frame: str
    status: str
    targets: Mapping[str, float]
    command: str
    bytes: int
    sha256: str
    answer: str | None = None
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True)
class TrailReport:
    """Commands read from the audit trail.

    Attributes:
        commands: the commands, oldest first.
        damaged_lines: number of lines that are not valid records.
    """

    commands: tuple[SentCommand, ...]
    damaged_lines: int


def read_trail(directory: Path, last: int) -> TrailReport:
    """Read the newest `last` commands; none if there is no trail.

    Raises:
        StorageError: a file cannot be read.
    """
    records: list[dict[str, Any]] = []
    damaged = 0
    for path in sorted(directory.glob("commands-????-??.jsonl"), reverse=True):
        try:
            newest, bad = _tail(path, 2 * last + 1)
        except OSError as error:
            raise storage_error(path, "read", error) from error
        records = newest + records
        damaged += bad
        if sum(record["event"] == "sending" for record in records) >= last:
            break
    return TrailReport(tuple(_pair(records)[-last:]), damaged)


def _tail(path: Path, most: int) -> tuple[list[dict[str, Any]], int]:
    """Return the last `most` records of a file and the number of its damaged lines."""
    records: deque[dict[str, Any]] = deque(maxlen=most)
    damaged = 0
    for line in _lines(path):
        record = _parse(line)
        if record is None:
            damaged += 1
        else:
            records.append(record)
    return list(records), damaged


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, each truncated to the longest length that the writer produces."""
    with path.open("rb") as file:
        while line := file.readline(_LONGEST_LINE_BYTES):
            rest = line
            while rest and not rest.endswith(b"\n"):
                rest = file.readline(_LONGEST_LINE_BYTES)
            yield line


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    wanted = {"sending": _SENDING_KEYS, "answer": ("at", "id", "seq", "answer", "latency_ms")}.get(
        str(record.get("event"))
    )
    return record if wanted is not None and all(key in record for key in wanted) else None


def _pair(records: list[dict[str, Any]]) -> list[SentCommand]:
    """Match answers to commands. One command is open at a time, so an answer belongs to the line before it."""
    commands: list[SentCommand] = []
    for index, record in enumerate(records):
        if record["event"] != "sending":
            continue
        after = records[index + 1] if index + 1 < len(records) else {}
        answered = after.get("event") == "answer" and after["id"] == record["id"] and after["seq"] == record["seq"]
        commands.append(
            SentCommand(
                **{key: record[key] for key in _SENDING_KEYS},
                answer=after["answer"] if answered else None,
                latency_ms=after["latency_ms"] if answered else None,
            )
        )
    return commands
