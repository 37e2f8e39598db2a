"""The SEM side of the socket: takes commands in both wire dialects and answers (protocol, section 3)."""

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
    """The SEM side has ended the connection on its own account."""


class CommandHandler(Protocol):
    """The SEM's handler of a command. A returned function runs after the answer was sent: the scan."""

    def on_action(self, action: Action) -> Callable[[], None]:
        """Apply an action (text dialect)."""

    def on_working_distance(self, wd_mm: float) -> Callable[[], None]:
        """Apply `WDMAG` (aisem dialect). Its magnification is that of the frame: the field stays."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the client and the answer to it.

    Attributes:
        id: of the action; empty in the `aisem` dialect, which has none.
        apply: does it; what it returns is run after the answer went out.
        answer: bytes.
    """

    id: str
    apply: Callable[[], Callable[[], None] | None]
    answer: bytes


@dataclass(slots=True)
class SemLink:
    """One listening socket, one client at a time.

    Attributes:
        handler: what commands do.
        stopped: asked often; ends `serve`.
        applied: ids applied so far; an id is applied once, however often it is sent.
    """

    handler: CommandHandler
    stopped: Callable[[], bool]
    applied: set[str] = field(default_factory=set)

    def serve(self, listener: socket.socket, dialect: str) -> None:
        """Serve clients on a listening socket until stopped; a client may leave and come back."""
        listener.settimeout(_POLL_S)
        talk = self._talk_aisem if dialect == "aisem" else self._talk_text
        while not self.stopped():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(_POLL_S)
                try:
                    talk(connection)
                except (ConnectionError, HungUpError):
                    continue  # the client comes back by itself

    def _receive(self, connection: socket.socket) -> bytes:
        """Return what came; empty when the client left or the server stops."""
        while not self.stopped():
            try:
                return connection.recv(65536)
            except TimeoutError:
                continue
        return b""

    def _talk_text(self, connection: socket.socket) -> None:
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
        """Apply a command, answer it, and do what comes after."""
        after = command.apply()
        try:
            connection.sendall(command.answer)
        finally:  # the SEM scans, whether or not anybody is left to hear of it
            if after is not None:
                after()

    def _talk_aisem(self, connection: socket.socket) -> None:
        while data := self._receive(connection):
            for command in _AISEM_COMMAND.findall(data.decode("ascii", "replace")):
                name, _, rest = command.partition(",")
                if name == "FINISH":
                    return
                if name == "WDMAG":
                    self._carry_out(connection, Command("", self._move(float(rest.split(",")[0])), _AISEM_REPLY))

    def _move(self, wd_mm: float) -> Callable[[], Callable[[], None] | None]:
        return lambda: self.handler.on_working_distance(wd_mm)
