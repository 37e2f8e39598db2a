"""Permanent audit trail of all commands sent to the microscope, in `audit/commands-YYYY-MM.jsonl`.

Each command has two lines. Every step is durable before the next one begins:

1. The journal records that the action is being sent (`semd.middle_client.journal`).
2. The line `sending` is appended to the trail.
3. The bytes are written to the socket.
4. The answer is received, or the timeout ends.
5. The line `answer` is appended to the trail.
6. The action file is moved and the journal is cleared.

Every command that was sent is therefore in the trail. A `sending` line without an `answer` line is left by a crash or a
broken link: it is unknown whether that command arrived. The trail is separate from the journal, because the journal
holds only the present state for the next process, whereas the trail is an append-only history for people.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from semd.middle_client.clock import Clock
from semd.protocol.action import Action
from semd.service.failpoints import Failpoint, reach
from semd.service.storage import storage_error, sync_directory

TRAIL_FOLDER = "audit"
_MAX_TEXT_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class _OpenCommand:
    """The command that awaits its answer, and the monotonic time at which it was announced."""

    id: str
    seq: int
    sent_at_s: float


class AuditTrail:
    """Writer of the audit trail; one file for each month in UTC, written by a single process.

    Args:
        directory: `audit` in the state directory; created when first needed.
        clock: time source of the time stamps and latencies.
    """

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._open: _OpenCommand | None = None
        self._due: dict[str, object] | None = None

    def sending(self, action: Action, data: bytes, command: str = "") -> None:
        """Append the line `sending` for a command; durable on return.

        Args:
            action: the action that the command belongs to.
            data: the bytes for the socket.
            command: the command as text, where one action takes several.

        Raises:
            StorageError: the line cannot be written; the command must not be sent.
        """
        self.flush()
        self._append(
            {
                "event": "sending",
                "at": self._now(),
                "id": action.id,
                "seq": action.seq,
                "frame": action.frame[:_MAX_TEXT_CHARACTERS],
                "status": str(action.status),
                "targets": {str(axis): value for axis, value in action.targets.items()},
                "command": command[:_MAX_TEXT_CHARACTERS],
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        )
        self._open = _OpenCommand(action.id, action.seq, self._clock.monotonic_s())

    def ended(self, answer: str) -> None:
        """Keep the answer to the open command until `flush` writes it. Without an open command, do nothing.

        Args:
            answer: the answer of the SEM, or the reason why there is none.
        """
        if self._open is None:
            return
        self._due = {
            "event": "answer",
            "at": self._now(),
            "id": self._open.id,
            "seq": self._open.seq,
            "answer": answer[:_MAX_TEXT_CHARACTERS],
            "latency_ms": round((self._clock.monotonic_s() - self._open.sent_at_s) * 1e3, 3),
        }
        self._open = None

    def flush(self) -> None:
        """Append the line `answer` if an answer is waiting to be written; durable on return.

        Raises:
            StorageError: the line cannot be written; call again.
        """
        if self._due is not None:
            self._append(self._due)
            self._due = None

    def _now(self) -> str:
        return self._clock.now().isoformat(timespec="milliseconds")

    def _append(self, record: dict[str, object]) -> None:
        line = json.dumps(record).encode() + b"\n"
        path = self._directory / f"commands-{self._clock.now():%Y-%m}.jsonl"
        try:
            if not self._directory.is_dir():
                self._directory.mkdir(parents=True)
                sync_directory(self._directory.parent)
            is_new = not path.exists()
            with path.open("ab+", buffering=0) as file:
                end = file.seek(0, os.SEEK_END)
                if end:
                    file.seek(end - 1)
                    if file.read(1) != b"\n":
                        line = b"\n" + line  # ends a partial line left by a full disk or a power failure
                reach(Failpoint.TRAIL_WRITING)
                _write_whole(file, line)
                os.fsync(file.fileno())
            if is_new:
                sync_directory(self._directory)
        except OSError as error:
            raise storage_error(path, "append to", error) from error


def _write_whole(file: BinaryIO, line: bytes) -> None:
    """Write in one call, so that a concurrent reader never sees part of a line."""
    if file.write(line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
