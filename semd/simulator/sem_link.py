"""SEM side of the link: receives and answers commands in both wire dialects (protocol, section 3)."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from semd.errors import ActionTextError
from semd.protocol.action import Action, decode_action

_POLL_S = 0.1
_AISEM_COMMAND = re.compile(r"Connected\.|COMM\.START\.|READY|FINISH|WDMAG,[^A-Za-z]+|POSITION,[^A-Za-z]+")
_AISEM_REPLY = "명령을 수행했습니다".encode("euc-kr")


class HungUpError(Exception):
    """The SEM side closed the connection."""


class CommandHandler(Protocol):
    """Handler of commands. The function that a method returns, a scan, runs after the answer was sent."""

    def on_action(self, action: Action) -> Callable[[], None]:
        """Apply an action (text dialect)."""

    def on_working_distance(self, wd_mm: float) -> Callable[[], None]:
        """Apply `WDMAG` (aisem dialect); its magnification is ignored, as the field stays the same."""


@dataclass(frozen=True, slots=True)
class Command:
    """Command of the client with its answer.

    Attributes:
        id: id of the action; empty in the `aisem` dialect, which has none.
        apply: applies the command; returns what to run after the answer was sent, or None.
        answer: bytes of the answer.
    """

    id: str
    apply: Callable[[], Callable[[], None] | None]
    answer: bytes


@dataclass(slots=True)
class SemLink:
    """Server of the link; it serves one client at a time.

    Attributes:
        handler: handler of the commands.
        stopped: returns True to end `serve`; polled every 0.1 s.
        applied: ids applied so far; an id is applied once, even if it is sent again.
    """

    handler: CommandHandler
    stopped: Callable[[], bool]
    applied: set[str] = field(default_factory=set)

    def serve(self, listener: socket.socket, dialect: str) -> None:
        """Serve clients on a listening socket until stopped; a client may disconnect and reconnect."""
        listener.settimeout(_POLL_S)
        serve_client = self._serve_aisem if dialect == "aisem" else self._serve_text
        while not self.stopped():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(_POLL_S)
                try:
                    serve_client(connection)
                except (ConnectionError, HungUpError):
                    continue  # the client reconnects by itself

    def _receive(self, connection: socket.socket) -> bytes:
        """Return the bytes received; empty when the client disconnected or the server stops."""
        while not self.stopped():
            try:
                return connection.recv(65536)
            except TimeoutError:
                continue
        return b""

    def _serve_text(self, connection: socket.socket) -> None:
        pending = b""
        while data := self._receive(connection):
            pending += data
            while b"\n\n" in pending:
                message, _, pending = pending.partition(b"\n\n")
                self._answer(connection, message + b"\n")

    def _answer(self, connection: socket.socket, message: bytes) -> None:
        try:
            action = decode_action(message)
        except ActionTextError as error:
            found = re.search(rb"^ID=([0-9a-f]{32})$", message, re.MULTILINE)
            name = found[1].decode() if found else "0" * 32
            connection.sendall(f"NAK {name} {error.code}\n".encode())
            return
        self._carry_out(connection, Command(action.id, lambda: self._apply_once(action), f"ACK {action.id}\n".encode()))

    def _apply_once(self, action: Action) -> Callable[[], None] | None:
        if action.id in self.applied:
            return None
        self.applied.add(action.id)
        return self.handler.on_action(action)

    def _carry_out(self, connection: socket.socket, command: Command) -> None:
        """Apply a command, answer it and run what follows."""
        after = command.apply()
        try:
            connection.sendall(command.answer)
        finally:  # the SEM scans even if the client is gone
            if after is not None:
                after()

    def _serve_aisem(self, connection: socket.socket) -> None:
        while data := self._receive(connection):
            for command in _AISEM_COMMAND.findall(data.decode("ascii", "replace")):
                name, _, rest = command.partition(",")
                if name == "FINISH":
                    return
                if name == "WDMAG":
                    self._carry_out(connection, Command("", self._move(float(rest.split(",")[0])), _AISEM_REPLY))

    def _move(self, wd_mm: float) -> Callable[[], Callable[[], None] | None]:
        return lambda: self.handler.on_working_distance(wd_mm)
