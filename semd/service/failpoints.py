"""Failpoints: every place where the death of a process, or a full disk, could matter, named in one table.

Nothing is armed but by `SEMD_FAILPOINT`, and that only on a state directory that holds the file `FAILPOINTS-ALLOWED`: a
variable left over in a shell keeps a process at the instrument from starting, and never kills it at work.
`semd evaluate crashes` goes through the whole table; `deploy/DURABILITY.md` says what rests on it.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

from semd.errors import ConfigError

ENVIRONMENT = "SEMD_FAILPOINT"
PERMIT_FILE = "FAILPOINTS-ALLOWED"

Mode = Literal["kill", "full"]


class Part(StrEnum):
    """The two processes."""

    DAEMON = "daemon"
    MIDDLE_CLIENT = "middle-client"


class Failpoint(StrEnum):
    """The names, in the order in which a frame and then its action pass them."""

    FRAME_PICKED_UP = "frame-picked-up"
    FRAME_READ = "frame-read"
    LEDGER_COMMIT = "ledger-commit"
    CLAIMED = "claimed"
    FILE_MOVING = "file-moving"
    FILE_MOVED = "file-moved"
    FILES_ASIDE = "files-aside"
    REASON_WRITING = "reason-writing"
    REASON_WRITTEN = "reason-written"
    JUDGED = "judged"
    DECIDED = "decided"
    RESUMED = "resumed"
    ACTION_WRITING = "action-writing"
    ACTION_WRITTEN = "action-written"
    ACTION_RENAMED = "action-renamed"
    ACTION_DURABLE = "action-durable"
    PUBLISHED = "published"
    REJECTED = "rejected"
    QUARANTINED = "quarantined"
    FRAME_SETTLED = "frame-settled"
    DAEMON_HEALTH = "daemon-health"
    ACTION_SEEN = "action-seen"
    JOURNAL_WRITING = "journal-writing"
    JOURNAL_WRITTEN = "journal-written"
    JOURNAL_RENAMED = "journal-renamed"
    TRAIL_WRITING = "trail-writing"
    TRAIL_WRITTEN = "trail-written"
    SENT = "sent"
    ANSWERED = "answered"
    ACTION_FILING = "action-filing"
    ACTION_FILED = "action-filed"
    FLIGHT_CLOSED = "flight-closed"
    CLIENT_HEALTH = "client-health"


@dataclass(frozen=True, slots=True)
class Spot:
    """One row of the table.

    Attributes:
        part: the process.
        where: what it is doing there.
        durable: what survives the death of the process, or of the computer, at this point.
        is_write: True where a full disk can show here.
    """

    part: Part
    where: str
    durable: str
    is_write: bool = False


_D, _C = Part.DAEMON, Part.MIDDLE_CLIENT

TABLE: Mapping[Failpoint, Spot] = {
    Failpoint.FRAME_PICKED_UP: Spot(_D, "the writer has let go of the files, nothing is read", "nothing of ours"),
    Failpoint.FRAME_READ: Spot(_D, "the frame is whole in memory", "nothing of ours"),
    Failpoint.LEDGER_COMMIT: Spot(_D, "a change is written, not committed", "the ledger as before it", is_write=True),
    Failpoint.CLAIMED: Spot(_D, "the claim is committed", "the claim, where files are moved; else after a kill only"),
    Failpoint.FILE_MOVING: Spot(_D, "a file is about to leave the watch directory", "the claim", is_write=True),
    Failpoint.FILE_MOVED: Spot(_D, "one of the files has left", "the claim, with both targets"),
    Failpoint.FILES_ASIDE: Spot(_D, "all have left, folders are synced", "the claim and the files' new places"),
    Failpoint.REASON_WRITING: Spot(_D, "half a reason is in its temporary file", "the files' places", is_write=True),
    Failpoint.REASON_WRITTEN: Spot(_D, "the reason lies beside its file", "the reason"),
    Failpoint.JUDGED: Spot(_D, "score and decision are in memory", "as before: claim and files"),
    Failpoint.DECIDED: Spot(_D, "the decision is committed", "the decision, and the claim in every layout"),
    Failpoint.RESUMED: Spot(_D, "a frame that a crash left is taken up again", "what that crash had left"),
    Failpoint.ACTION_WRITING: Spot(_D, "half an action is in its temporary file", "the decision", is_write=True),
    Failpoint.ACTION_WRITTEN: Spot(_D, "all of it is, synced, without its name", "the decision and nameless bytes"),
    Failpoint.ACTION_RENAMED: Spot(_D, "it has its name, the folder is not synced", "the decision; the name perhaps"),
    Failpoint.ACTION_DURABLE: Spot(_D, "the folder is synced, the ledger does not know", "the action file"),
    Failpoint.PUBLISHED: Spot(_D, "the ledger says published", "the action file; the mark with the next commit"),
    Failpoint.REJECTED: Spot(_D, "a rejection is committed, its files lie where they were", "the rejection"),
    Failpoint.QUARANTINED: Spot(_D, "the ledger says quarantined", "files and reason; the mark with the next commit"),
    Failpoint.FRAME_SETTLED: Spot(_D, "the inbox is done with the frame", "all of the frame"),
    Failpoint.DAEMON_HEALTH: Spot(_D, "half of health or metrics is written", "all of the frames", is_write=True),
    Failpoint.ACTION_SEEN: Spot(_C, "an action is read and may be sent", "the action file"),
    Failpoint.JOURNAL_WRITING: Spot(_C, "half a journal is in its temporary file", "the old journal", is_write=True),
    Failpoint.JOURNAL_WRITTEN: Spot(_C, "all of it is, synced, without its name", "the old journal"),
    Failpoint.JOURNAL_RENAMED: Spot(_C, "it has its name, the folder is not synced", "one of the two journals"),
    Failpoint.TRAIL_WRITING: Spot(_C, "the audit trail's next line is due", "the journal", is_write=True),
    Failpoint.TRAIL_WRITTEN: Spot(_C, "the line `sending` is synced, nothing is sent", "journal and trail: in doubt"),
    Failpoint.SENT: Spot(_C, "the bytes are with the system", "journal and trail: in doubt"),
    Failpoint.ANSWERED: Spot(_C, "the answer is in memory", "journal and trail: in doubt"),
    Failpoint.ACTION_FILING: Spot(_C, "the action's file is about to be moved", "the answer's line", is_write=True),
    Failpoint.ACTION_FILED: Spot(_C, "it is moved, folders are synced", "the file's place, which tells the outcome"),
    Failpoint.FLIGHT_CLOSED: Spot(_C, "the journal has nothing on its way", "all of the action"),
    Failpoint.CLIENT_HEALTH: Spot(_C, "half of health or metrics is written", "all of the actions", is_write=True),
}

_ORDER = re.compile(r"([a-z-]+):([1-9][0-9]{0,5})=(?:(kill)|full\*([1-9][0-9]{0,3}))")


@dataclass(slots=True)
class Trap:
    """An armed failpoint.

    Attributes:
        point: where.
        hit: at which time it is reached, counted from 1.
        mode: `kill` ends the process at once, `full` is a disk without room.
        times: how often in a row the disk is full.
        reached: how often it was reached so far.
    """

    point: Failpoint
    hit: int
    mode: Mode
    times: int = 1
    reached: int = field(default=0, init=False)

    @classmethod
    def parse(cls, text: str) -> Trap:
        """Read `<name>:<hit>=kill` or `<name>:<hit>=full*<times>`.

        Raises:
            ConfigError: it is neither, names no failpoint, or a full disk where nothing is written.
        """
        match = _ORDER.fullmatch(text)
        if match is None or match[1] not in set(Failpoint):
            raise ConfigError(f"{ENVIRONMENT}={text!r}: write <name>:<hit>=kill or <name>:<hit>=full*<times>; unset it")
        point = Failpoint(match[1])
        if match[3]:
            return cls(point, int(match[2]), "kill")
        if not TABLE[point].is_write:
            raise ConfigError(f"{ENVIRONMENT}={text!r}: nothing is written at {point}, so no disk can be full there")
        return cls(point, int(match[2]), "full", int(match[4]))

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return f"{self.point}:{self.hit}=" + ("kill" if self.mode == "kill" else f"full*{self.times}")

    def spring(self, point: Failpoint, prepare: Callable[[], object] | None) -> None:
        """Count, and do what is due.

        Raises:
            OSError: the disk is said to be full.
        """
        if point is not self.point:
            return
        self.reached += 1
        if not self.hit <= self.reached < self.hit + self.times:
            return
        os.write(2, f"failpoint {self} springs\n".encode())
        if prepare is not None:
            prepare()
        if self.mode == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows: TerminateProcess either way


_ARMED: list[Trap] = []


def reach(point: Failpoint, prepare: Callable[[], object] | None = None) -> None:
    """Say that the process has come to a failpoint; nothing happens unless a trap is armed.

    Args:
        point: which.
        prepare: called right before the trap springs: brings what is half-way in memory half-way to the disk.

    Raises:
        OSError: a full disk is played here.
    """
    if _ARMED:
        _ARMED[0].spring(point, prepare)


def arm(environment: Mapping[str, str], state_directory: Path) -> None:
    """Arm what the environment asks for, if anything.

    Args:
        environment: `os.environ`.
        state_directory: holds `FAILPOINTS-ALLOWED` on a test bench, and nowhere else.

    Raises:
        ConfigError: the environment asks, and the state directory does not allow it; or it asks for nonsense.
    """
    text = environment.get(ENVIRONMENT)
    if text is None:
        return
    if not (state_directory / PERMIT_FILE).is_file():
        raise ConfigError(
            f"{ENVIRONMENT} is set, which is for test benches: {state_directory} holds no {PERMIT_FILE}; unset it"
        )
    _ARMED[:] = [Trap.parse(text)]


def disarm() -> None:
    """Take the trap away."""
    _ARMED.clear()
