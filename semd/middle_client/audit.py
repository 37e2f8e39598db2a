"""The audit trail: every command that was sent to the microscope, for good, in `audit/commands-YYYY-MM.jsonl`.

Two lines a command, each synced before what follows it:

1. the journal says that the action is being sent (`semd.middle_client.journal`),
2. the line `sending` is in the trail,
3. the bytes go to the socket,
4. the answer comes, or nothing does,
5. the line `answer` is in the trail,
6. the action's file is moved and the journal forgets it: only now is the send done.

So nothing was ever sent that the trail lacks. A `sending` without `answer` is what a crash or a broken link left: it
may or may not have arrived. The journal cannot serve in its place: it is the present state of one action, replaced at
every step and read by the next process; this is history, only ever appended to and read by people.
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
_LONGEST_TEXT = 300


@dataclass(frozen=True, slots=True)
class _Open:
    """A command on its way: whose, and when it went."""

    id: str
    seq: int
    sent_at_s: float


class AuditTrail:
    """Appends to the month's file, by UTC. One process writes it.

    Args:
        directory: `audit` in the state directory; made when first needed.
        clock: both sides of it.
    """

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._open: _Open | None = None
        self._due: dict[str, object] | None = None

    def sending(self, action: Action, data: bytes, command: str = "") -> None:
        """Write down what is about to be sent; durable on return.

        Args:
            action: whose command it is.
            data: the bytes for the socket.
            command: the command as text, where one action takes several.

        Raises:
            StorageError: it cannot be written; the command must not be sent.
        """
        self.flush()
        self._append(
            {
                "event": "sending",
                "at": self._now(),
                "id": action.id,
                "seq": action.seq,
                "frame": action.frame[:_LONGEST_TEXT],
                "status": str(action.status),
                "targets": {str(axis): value for axis, value in action.targets.items()},
                "command": command[:_LONGEST_TEXT],
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        )
        self._open = _Open(action.id, action.seq, self._clock.monotonic_s())

    def ended(self, answer: str) -> None:
        """Note how the command on its way ended; `flush` writes it. Nothing when none is.

        Args:
            answer: what the SEM said, or why nothing was heard.
        """
        if self._open is None:
            return
        self._due = {
            "event": "answer",
            "at": self._now(),
            "id": self._open.id,
            "seq": self._open.seq,
            "answer": answer[:_LONGEST_TEXT],
            "latency_ms": round((self._clock.monotonic_s() - self._open.sent_at_s) * 1e3, 3),
        }
        self._open = None

    def flush(self) -> None:
        """Write the answer that is due, if any; durable on return.

        Raises:
            StorageError: it cannot be written; call again.
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
                        line = b"\n" + line  # half a line, which a full disk or a power cut left
                reach(Failpoint.TRAIL_WRITING)
                _write_whole(file, line)
                os.fsync(file.fileno())
            if is_new:
                sync_directory(self._directory)
        except OSError as error:
            raise storage_error(path, "append to", error) from error


def _write_whole(file: BinaryIO, line: bytes) -> None:
    """Write in one call, so that who reads meanwhile sees all of the line or nothing."""
    if file.write(line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
