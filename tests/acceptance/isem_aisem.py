"""The SEM's end of the socket, dialect `aisem`: no terminators, no ids, replies in EUC-KR."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from isem_server import SemServer

GREETING: Final = b"Connected.COMM.START.READY"
REPLY: Final = "명령을 수행하였습니다"
_QUIET_S: Final = 0.04
_COMMAND: Final = re.compile(rb"WDMAG,(?P<wd>\d+(?:\.\d+)?),(?P<mag>\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class WdMag:
    """One `WDMAG` command: working distance in mm, magnification in x."""

    wd_mm: float
    magnification: float


class AisemServer(SemServer):
    """Dialect `aisem`.

    Args:
        apply: Called for every command; sets the column and asks for a scan.
        scanning: Whether the scan asked for by the last command is not yet completely written.
        drop_before_reply: 1-based numbers of commands that are carried out and not answered: the link closes.
        reply_delay_s: Wait before every reply.
    """

    def __init__(
        self,
        apply: Callable[[WdMag], None],
        scanning: Callable[[], bool],
        *,
        drop_before_reply: frozenset[int] = frozenset(),
        reply_delay_s: float = 0.05,
    ) -> None:
        super().__init__()
        self.commands: list[WdMag] = []
        self._violations: list[str] = []
        self._apply = apply
        self._scanning = scanning
        self._drop_before_reply = drop_before_reply
        self._reply_delay_s = reply_delay_s

    @property
    def violations(self) -> list[str]:
        """Violations of the contract by the client."""
        return self._violations

    def _serve(self, connection: int, peer: socket.socket) -> None:
        peer.settimeout(_QUIET_S)
        greeted = b""
        pending = b""
        while not self._stop.is_set():
            data = self._receive(connection, peer)
            if data is not None:
                pending += data
                continue
            # A quiet spell ends a message: the dialect has no other mark.
            if len(greeted) < len(GREETING):
                share = len(GREETING) - len(greeted)
                greeted, pending = greeted + pending[:share], pending[share:]
                if not GREETING.startswith(greeted):
                    self._violations.append(f"connection {connection} began with {greeted!r}, not {GREETING!r}")
                    return
            if not pending:
                continue
            message, pending = pending, b""
            if message == b"FINISH":
                return
            if not self._command(connection, peer, message):
                self.log(connection, "dropped")
                return

    def _command(self, connection: int, peer: socket.socket, message: bytes) -> bool:
        match = _COMMAND.fullmatch(message.removesuffix(b"FINISH"))
        if match is None:
            self._violations.append(f"not one command without terminator: {message!r}")
            return True
        if self._scanning():
            self._violations.append(f"{message!r} came before the frame of the command before it was written")
        with self._lock:
            command = WdMag(float(match["wd"]), float(match["mag"]))
            self.commands.append(command)
            number = len(self.commands)
            self._apply(command)
        if message.endswith(b"FINISH"):
            return False
        self._stop.wait(self._reply_delay_s)
        if number in self._drop_before_reply:
            return False
        self._expect_silence(connection, peer)
        reply = REPLY.encode("euc-kr")
        self.log(connection, "answered", reply)
        peer.sendall(reply)
        return True

    def _expect_silence(self, connection: int, peer: socket.socket) -> None:
        peer.setblocking(False)
        try:
            early = peer.recv(65536, socket.MSG_PEEK)
        except BlockingIOError:
            early = b""
        finally:
            peer.settimeout(_QUIET_S)
        if early not in (b"", b"FINISH"):
            self._violations.append(f"connection {connection} sent {early!r} before the reply")
