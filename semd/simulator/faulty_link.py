"""SEM side of the link with injected faults.

`SemLink` stays the reference under every fault: an id is applied once, and only from a complete message.
`EXPECTED_EVENTS` lists the events that the client must log.
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
"""Faults of the `aisem` dialect, which has neither ids nor ACK, NAK and BUSY."""

RECOVERED_FAULTS: Final[Mapping[str, tuple[LinkFault, ...]]] = {
    "text": tuple(fault for fault in LinkFault if fault is not LinkFault.NAK),
    "aisem": (
        LinkFault.RESET_AFTER, LinkFault.CUT, LinkFault.LATE, LinkFault.SLOW, LinkFault.SLICED, LinkFault.DUPLICATED,
    ),
}  # fmt: skip
"""Faults after which the SEM scans again by itself, by dialect; a lost `aisem` command is never sent again."""

EXPECTED_EVENTS: Final[Mapping[LinkFault, tuple[str, ...]]] = {
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
"""Events that the Middle Client logs after each fault, in the `text` dialect (see deploy/OPERATIONS.md)."""

_NO_ID = "f" * 32


@dataclass(slots=True)
class FaultySemLink(SemLink):
    """SEM side of the link with faults.

    Attributes:
        plan: schedule of faults; each message counts as one command, including repeated ones.
        pause: waits for a number of seconds, or until the server stops.
        slow_s: delay of a slow answer in s; shorter than the client's timeout.
        slice_s: pause between the pieces of a sliced answer in s.
        busy_times: number of BUSY answers in a row.
        rng: random generator of the garbage.
        received: ids of all complete messages in the order of arrival; empty ids in the `aisem` dialect.
    """

    plan: FaultPlan[LinkFault] = field(default_factory=FaultPlan)
    pause: Callable[[float], object] = lambda _: None
    slow_s: float = 0.05
    slice_s: float = 0.002
    busy_times: int = 5
    rng: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - no secret
    received: list[str] = field(default_factory=list)
    _busy_left: dict[str, int] = field(default_factory=dict)
    _silent_sockets: list[socket.socket] = field(default_factory=list)
    _late_answers: list[bytes] = field(default_factory=list)

    def serve(self, listener: socket.socket, dialect: str) -> None:
        """Serve clients until stopped; see `SemLink`."""
        try:
            SemLink.serve(self, listener, dialect)
        finally:
            for silent in self._silent_sockets:
                silent.close()
            self._silent_sockets.clear()

    def _carry_out(self, connection: socket.socket, command: Command) -> None:
        self.received.append(command.id)
        while self._late_answers:  # answers to messages of an earlier connection
            connection.sendall(self._late_answers.pop())
        if self._busy_left.get(command.id, 0) > 0:
            self._busy_left[command.id] -= 1
            connection.sendall(f"BUSY {command.id}\n".encode())
            return
        fault = self.plan.next()
        if fault is None:
            SemLink._carry_out(self, connection, command)
        else:
            _FAULT_METHODS[fault](self, connection, command)

    def _apply_then(self, command: Command, answer: Callable[[], None]) -> None:
        """Apply a command, run `answer` in place of the proper answer, and scan in any case."""
        after = command.apply()
        try:
            answer()
        finally:
            if after is not None:
                after()

    def _drop(self, _connection: socket.socket, _command: Command) -> None:
        raise HungUpError

    def _reset_before(self, connection: socket.socket, _command: Command) -> None:
        _reset(connection)

    def _reset_after(self, connection: socket.socket, command: Command) -> None:
        self._apply_then(command, lambda: _reset(connection))

    def _cut(self, connection: socket.socket, command: Command) -> None:
        def answer() -> None:
            connection.sendall(command.answer[: len(command.answer) // 2])
            raise HungUpError

        # `aisem` replies have no terminator, so the client takes half a reply for a whole one.
        self._apply_then(command, answer)

    def _go_silent(self, connection: socket.socket, _command: Command) -> None:
        """Leave the connection open without sending or closing."""
        self._silent_sockets.append(socket.socket(fileno=connection.detach()))
        raise HungUpError

    def _answer_late(self, connection: socket.socket, command: Command) -> None:
        """Send the answer after the client has timed out, on the connection it opens next."""

        def answer() -> None:
            self._late_answers.append(command.answer)
            self._go_silent(connection, command)

        self._apply_then(command, answer)

    def _answer_slowly(self, connection: socket.socket, command: Command) -> None:
        def answer() -> None:
            self.pause(self.slow_s)
            connection.sendall(command.answer)

        self._apply_then(command, answer)

    def _slice(self, connection: socket.socket, command: Command) -> None:
        def answer() -> None:
            for index in range(len(command.answer)):
                connection.sendall(command.answer[index : index + 1])
                self.pause(self.slice_s)

        self._apply_then(command, answer)

    def _duplicate(self, connection: socket.socket, command: Command) -> None:
        def answer() -> None:
            for _ in range(3):
                connection.sendall(command.answer)
                self.pause(self.slice_s)

        self._apply_then(command, answer)

    def _send_garbage(self, connection: socket.socket, _command: Command) -> None:
        connection.sendall(self.rng.randbytes(200) + b"\n")

    def _send_endless(self, connection: socket.socket, _command: Command) -> None:
        connection.sendall(b"ACK " * 1000)

    def _send_busy_repeatedly(self, connection: socket.socket, command: Command) -> None:
        self._busy_left[command.id] = self.busy_times - 1
        connection.sendall(f"BUSY {command.id}\n".encode())

    def _send_busy_then_done(self, connection: socket.socket, command: Command) -> None:
        def answer() -> None:
            connection.sendall(f"BUSY {command.id}\n".encode() + command.answer)

        self._apply_then(command, answer)

    def _refuse(self, connection: socket.socket, command: Command) -> None:
        connection.sendall(f"NAK {command.id} the stage is locked\n".encode())

    def _send_wrong_id(self, connection: socket.socket, _command: Command) -> None:
        connection.sendall(f"ACK {_NO_ID}\n".encode())


def _reset(connection: socket.socket) -> None:
    """Close a connection by RST, which discards unsent data."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    raise HungUpError


_FAULT_METHODS: Final[Mapping[LinkFault, Callable[[FaultySemLink, socket.socket, Command], None]]] = {
    LinkFault.LOST: FaultySemLink._drop,
    LinkFault.RESET_BEFORE: FaultySemLink._reset_before,
    LinkFault.RESET_AFTER: FaultySemLink._reset_after,
    LinkFault.CUT: FaultySemLink._cut,
    LinkFault.HALF_OPEN: FaultySemLink._go_silent,
    LinkFault.LATE: FaultySemLink._answer_late,
    LinkFault.SLOW: FaultySemLink._answer_slowly,
    LinkFault.SLICED: FaultySemLink._slice,
    LinkFault.DUPLICATED: FaultySemLink._duplicate,
    LinkFault.GARBAGE: FaultySemLink._send_garbage,
    LinkFault.ENDLESS: FaultySemLink._send_endless,
    LinkFault.BUSY: FaultySemLink._send_busy_repeatedly,
    LinkFault.BUSY_THEN_DONE: FaultySemLink._send_busy_then_done,
    LinkFault.NAK: FaultySemLink._refuse,
    LinkFault.WRONG_ID: FaultySemLink._send_wrong_id,
}
