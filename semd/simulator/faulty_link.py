"""A SEM side of the socket that does everything wrong that the other side of a link can do.

Whatever happens, the truth stays what `SemLink` keeps: an id is applied once, and only from a whole message. What the
client must show is in `AFTERMATH`.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from semd.simulator.fault_plan import FaultPlan
from semd.simulator.sem_link import Command, HungUpError, SemLink


class LinkFault(StrEnum):
    """Fault of one command."""

    LOST = "lost"
    RESET_BEFORE = "reset-before"
    RESET_AFTER = "reset-after"
    CUT = "cut"
    HALF_OPEN = "half-open"
    LATE = "late"
    SLOW = "slow"
    SLICED = "sliced"
    DUPLICATED = "duplicated"
    GARBAGE = "garbage"
    ENDLESS = "endless"
    BUSY = "busy"
    BUSY_THEN_DONE = "busy-then-done"
    NAK = "nak"
    WRONG_ID = "wrong-id"


AISEM_FAULTS: Final = tuple(LinkFault)[: tuple(LinkFault).index(LinkFault.BUSY)]
"""Those that a dialect without ids and verdicts can have."""

SURVIVED: Final[Mapping[str, tuple[LinkFault, ...]]] = {
    "text": tuple(fault for fault in LinkFault if fault is not LinkFault.NAK),
    "aisem": (
        LinkFault.RESET_AFTER, LinkFault.CUT, LinkFault.LATE, LinkFault.SLOW, LinkFault.SLICED, LinkFault.DUPLICATED,
    ),
}  # fmt: skip
"""Faults after which the SEM scans again by itself, by dialect: a lost `aisem` command is never sent again."""

AFTERMATH: Final[Mapping[LinkFault, tuple[str, ...]]] = {
    LinkFault.LOST: ("link.lost",),
    LinkFault.RESET_BEFORE: ("link.lost",),
    LinkFault.RESET_AFTER: ("link.lost",),
    LinkFault.CUT: ("link.lost",),
    LinkFault.HALF_OPEN: ("link.lost",),
    LinkFault.LATE: ("link.lost",),
    LinkFault.SLOW: ("action.sent",),
    LinkFault.SLICED: ("action.sent",),
    LinkFault.DUPLICATED: ("link.stray-answer",),
    LinkFault.GARBAGE: ("link.lost",),
    LinkFault.ENDLESS: ("link.lost",),
    LinkFault.BUSY: ("action.busy",),
    LinkFault.BUSY_THEN_DONE: ("action.busy", "action.sent"),
    LinkFault.NAK: ("action.refused",),
    LinkFault.WRONG_ID: ("link.stray-answer", "link.lost"),
}
"""Events in the Middle Client's log that each fault ends in, in the `text` dialect (see deploy/OPERATIONS.md)."""

_NO_ID = "f" * 32


@dataclass(slots=True)
class FaultySemLink(SemLink):
    """A SEM side with faults.

    Attributes:
        plan: which commands go wrong, and how; every message is one, also one that is sent again.
        pause: waits for a number of seconds, or until the server stops.
        slow_s: how long a slow answer takes; less than the client's patience.
        slice_s: between the pieces of a sliced one.
        busy_times: length of a BUSY storm.
        rng: for garbage.
        received: id of every message that came whole, in the order of coming; empty ids in the `aisem` dialect.
    """

    plan: FaultPlan[LinkFault] = field(default_factory=FaultPlan)
    pause: Callable[[float], object] = lambda _: None
    slow_s: float = 0.05
    slice_s: float = 0.002
    busy_times: int = 5
    rng: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - no secret
    received: list[str] = field(default_factory=list)
    _busy_left: dict[str, int] = field(default_factory=dict)
    _ghosts: list[socket.socket] = field(default_factory=list)
    _held_back: list[bytes] = field(default_factory=list)

    def serve(self, listener: socket.socket, dialect: str) -> None:
        """Serve clients until stopped; see `SemLink`."""
        try:
            SemLink.serve(self, listener, dialect)
        finally:
            for ghost in self._ghosts:
                ghost.close()
            self._ghosts.clear()

    def _carry_out(self, connection: socket.socket, command: Command) -> None:
        self.received.append(command.id)
        while self._held_back:  # the answer to another connection's message
            connection.sendall(self._held_back.pop())
        if self._busy_left.get(command.id, 0) > 0:
            self._busy_left[command.id] -= 1
            connection.sendall(f"BUSY {command.id}\n".encode())
            return
        fault = self.plan.next()
        if fault is None:
            SemLink._carry_out(self, connection, command)
        else:
            _MANNERS[fault](self, connection, command)

    def _taken(self, command: Command, answer: Callable[[], None]) -> None:
        """Apply it, misbehave in place of the answer, and scan all the same."""
        after = command.apply()
        try:
            answer()
        finally:
            if after is not None:
                after()

    def _lose(self, _connection: socket.socket, _command: Command) -> None:
        raise HungUpError

    def _reset_before(self, connection: socket.socket, _command: Command) -> None:
        _reset(connection)

    def _reset_after(self, connection: socket.socket, command: Command) -> None:
        self._taken(command, lambda: _reset(connection))

    def _cut(self, connection: socket.socket, command: Command) -> None:
        def answer() -> None:
            connection.sendall(command.answer[: len(command.answer) // 2])
            raise HungUpError

        # In the dialect without line ends half a reply is one: the client cannot know.
        self._taken(command, answer)

    def _go_silent(self, connection: socket.socket, _command: Command) -> None:
        """The connection stays and nobody is there any more: no byte, no end."""
        self._ghosts.append(socket.socket(fileno=connection.detach()))
        raise HungUpError

    def _come_late(self, connection: socket.socket, command: Command) -> None:
        """The answer comes when the client has given up and is back: on the connection it has then."""

        def answer() -> None:
            self._held_back.append(command.answer)
            self._go_silent(connection, command)

        self._taken(command, answer)

    def _be_slow(self, connection: socket.socket, command: Command) -> None:
        def answer() -> None:
            self.pause(self.slow_s)
            connection.sendall(command.answer)

        self._taken(command, answer)

    def _slice(self, connection: socket.socket, command: Command) -> None:
        def answer() -> None:
            for index in range(len(command.answer)):
                connection.sendall(command.answer[index : index + 1])
                self.pause(self.slice_s)

        self._taken(command, answer)

    def _duplicate(self, connection: socket.socket, command: Command) -> None:
        def answer() -> None:
            for _ in range(3):
                connection.sendall(command.answer)
                self.pause(self.slice_s)

        self._taken(command, answer)

    def _babble(self, connection: socket.socket, _command: Command) -> None:
        connection.sendall(self.rng.randbytes(200) + b"\n")

    def _never_end(self, connection: socket.socket, _command: Command) -> None:
        connection.sendall(b"ACK " * 1000)

    def _storm(self, connection: socket.socket, command: Command) -> None:
        self._busy_left[command.id] = self.busy_times - 1
        connection.sendall(f"BUSY {command.id}\n".encode())

    def _contradict(self, connection: socket.socket, command: Command) -> None:
        def answer() -> None:
            connection.sendall(f"BUSY {command.id}\n".encode() + command.answer)

        self._taken(command, answer)

    def _refuse(self, connection: socket.socket, command: Command) -> None:
        connection.sendall(f"NAK {command.id} the stage is locked\n".encode())

    def _mistake(self, connection: socket.socket, _command: Command) -> None:
        connection.sendall(f"ACK {_NO_ID}\n".encode())


def _reset(connection: socket.socket) -> None:
    """End a connection by RST: what was on its way is lost."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    raise HungUpError


_MANNERS: Final[Mapping[LinkFault, Callable[[FaultySemLink, socket.socket, Command], None]]] = {
    LinkFault.LOST: FaultySemLink._lose,
    LinkFault.RESET_BEFORE: FaultySemLink._reset_before,
    LinkFault.RESET_AFTER: FaultySemLink._reset_after,
    LinkFault.CUT: FaultySemLink._cut,
    LinkFault.HALF_OPEN: FaultySemLink._go_silent,
    LinkFault.LATE: FaultySemLink._come_late,
    LinkFault.SLOW: FaultySemLink._be_slow,
    LinkFault.SLICED: FaultySemLink._slice,
    LinkFault.DUPLICATED: FaultySemLink._duplicate,
    LinkFault.GARBAGE: FaultySemLink._babble,
    LinkFault.ENDLESS: FaultySemLink._never_end,
    LinkFault.BUSY: FaultySemLink._storm,
    LinkFault.BUSY_THEN_DONE: FaultySemLink._contradict,
    LinkFault.NAK: FaultySemLink._refuse,
    LinkFault.WRONG_ID: FaultySemLink._mistake,
}
