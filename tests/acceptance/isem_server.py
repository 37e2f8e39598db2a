"""The SEM's end of the socket, dialect `text`: ACK, BUSY, NAK, idempotent by ID, with faults on order."""

from __future__ import annotations

import datetime as dt
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

from isem_protocol import MESSAGE_LIMIT_BYTES, ActionOrder, ReadAction

_TICK_S = 0.05


@dataclass(frozen=True, slots=True)
class LinkFaults:
    """Misbehaviour of the link. Actions are counted from 1 in the order of their first receipt.

    Args:
        lose: Close the connection on first receipt, neither applied nor answered.
        drop_before_answer: Apply, then close without the answer.
        drop_mid_answer: Apply, send half of the answer, then close.
        drop_after_answer: Apply, answer, then close.
        busy: Action number to how often it is answered BUSY before it is taken.
        refuse: Answer NAK.
        answer_delay_s: Wait before every answer.
    """

    lose: frozenset[int] = frozenset()
    drop_before_answer: frozenset[int] = frozenset()
    drop_mid_answer: frozenset[int] = frozenset()
    drop_after_answer: frozenset[int] = frozenset()
    busy: dict[int, int] = field(default_factory=dict)
    refuse: frozenset[int] = frozenset()
    answer_delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """One line of the link's log.

    Args:
        at: UTC.
        connection: 1-based number of the connection.
        kind: `connected`, `received`, `answered`, `dropped` or `closed`.
        data: Bytes received or sent.
    """

    at: dt.datetime
    connection: int
    kind: str
    data: bytes = b""


class SemServer(ABC):
    """Listens on the loopback interface, one thread for each connection; subclasses speak a dialect."""

    def __init__(self) -> None:
        self.events: list[LinkEvent] = []
        self.port = 0
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._listener: socket.socket | None = None
        self._open: dict[int, socket.socket] = {}
        self._threads: list[threading.Thread] = []
        self._connections = 0

    @property
    @abstractmethod
    def violations(self) -> list[str]:
        """Violations of the contract by the client."""

    @abstractmethod
    def _serve(self, connection: int, peer: socket.socket) -> None:
        """Speak the dialect until the peer leaves or `_stop` is set."""

    def listen(self) -> None:
        """Open the listening socket; the first time on a free port, later on the same one."""
        self._stop.clear()
        listener = socket.create_server(("127.0.0.1", self.port), backlog=8)
        listener.settimeout(_TICK_S)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._run(self._accept, listener)

    def close(self) -> None:
        """Close the listening socket and all connections, as if the SEM program had ended."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10.0)
        self._threads.clear()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def connection_count(self) -> int:
        """Return how many connections were accepted so far."""
        return self._connections

    def wait(self, seconds: float) -> bool:
        """Wait, but no longer than until the server closes; return whether it closes."""
        return self._stop.wait(seconds)

    def log(self, connection: int, kind: str, data: bytes = b"") -> None:
        """Append one event."""
        self.events.append(LinkEvent(dt.datetime.now(dt.UTC), connection, kind, data))

    def _run(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while not self._stop.is_set():
            try:
                peer, _ = listener.accept()
            except TimeoutError:
                continue
            peer.settimeout(_TICK_S)
            self._connections += 1
            self._run(self._connection, self._connections, peer)

    def _connection(self, connection: int, peer: socket.socket) -> None:
        self.log(connection, "connected")
        try:
            with peer:
                self._serve(connection, peer)
        except OSError as error:
            self.log(connection, "dropped", repr(error).encode())
        self.log(connection, "closed")

    def _receive(self, connection: int, peer: socket.socket) -> bytes | None:
        """Return the next bytes; None when nothing came within a tick.

        Raises:
            ConnectionResetError: The peer closed.
        """
        try:
            data = peer.recv(65536)
        except TimeoutError:
            return None
        if not data:
            raise ConnectionResetError("peer closed")
        self.log(connection, "received", data)
        return data


class TextServer(SemServer):
    """Dialect `text`.

    Args:
        axes: Controlled axes, for the strict check of messages.
        apply: Called once for each new ID, in order of receipt.
        faults: Misbehaviour on order.
    """

    def __init__(self, axes: tuple[str, ...], apply: Callable[[ReadAction], None], faults: LinkFaults) -> None:
        super().__init__()
        self.order = ActionOrder(axes)
        self.applied: list[ReadAction] = []
        self.refused: list[ReadAction] = []
        self.acknowledged: set[str] = set()
        # How often the link itself gave the client reason to send an ID again.
        self.excused: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self._busy_left = dict(faults.busy)
        self._apply = apply
        self._faults = faults

    @property
    def violations(self) -> list[str]:
        """Violations of the contract by the client."""
        return self.order.violations

    def _serve(self, connection: int, peer: socket.socket) -> None:
        pending = b""
        while not self._stop.is_set():
            data = self._receive(connection, peer)
            if data is None:
                continue
            pending += data
            while b"\n\n" in pending:
                head, _, pending = pending.partition(b"\n\n")
                if not self._message(connection, peer, head + b"\n"):
                    self.log(connection, "dropped")
                    return
            if len(pending) > MESSAGE_LIMIT_BYTES:
                self.violations.append(f"{len(pending)} bytes without an empty line: {pending[:60]!r}")
                return

    def _message(self, connection: int, peer: socket.socket, payload: bytes) -> bool:
        """Judge, apply and answer one message; return whether the connection stays open."""
        with self._lock:
            action = self.order.receive(payload, connection, dt.datetime.now(dt.UTC))
            if action is None:
                self._answer(connection, peer, f"NAK {'0' * 32} malformed")
                return True
            first = action.action_id not in self._numbers
            number = self._numbers.setdefault(action.action_id, len(self._numbers) + 1)
            if first and number in self._faults.lose:
                self._excuse(action)
                return False
            if self._busy_left.get(number, 0) > 0:
                self._busy_left[number] -= 1
                self._excuse(action)
                self._answer(connection, peer, f"BUSY {action.action_id}")
                return True
            if number in self._faults.refuse:
                self.refused.append(action)
                self._answer(connection, peer, f"NAK {action.action_id} stage is locked")
                return True
            if all(done.action_id != action.action_id for done in self.applied):
                self.applied.append(action)
                self._apply(action)
        if self._faults.answer_delay_s and self._stop.wait(self._faults.answer_delay_s):
            return False
        return self._acknowledge(connection, peer, action, first, number)

    def _acknowledge(self, connection: int, peer: socket.socket, action: ReadAction, first: bool, number: int) -> bool:
        answer = f"ACK {action.action_id}"
        if first and number in self._faults.drop_before_answer:
            self._excuse(action)
            return False
        if first and number in self._faults.drop_mid_answer:
            self._excuse(action)
            peer.sendall(answer[:11].encode())
            return False
        self._answer(connection, peer, answer)
        with self._lock:
            self.acknowledged.add(action.action_id)
            self.order.acknowledged(action, connection)
            if first and number in self._faults.drop_after_answer:
                self._excuse(action)
                return False
        return True

    def _answer(self, connection: int, peer: socket.socket, line: str) -> None:
        self.log(connection, "answered", line.encode())
        peer.sendall(line.encode() + b"\n")

    def _excuse(self, action: ReadAction) -> None:
        self.excused[action.action_id] = self.excused.get(action.action_id, 0) + 1
