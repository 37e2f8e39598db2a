"""A Middle Client process against a listening SEM that loses, delays and refuses as it is told."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from semd.domain.axes import Axis
from semd.middle_client.client_process import run_middle_client
from semd.middle_client.settings import MiddleClientSettings
from semd.protocol.action import Action, Status, decode_action, encode_action

Manner = Callable[[int], str]
"""Behaviour of the server at its n-th message, counted from 1."""

PATIENCE_S = 20.0


def make_action(seq: int, lifetime_s: float = 60.0, wd_mm: float = 9.0) -> Action:
    issued = datetime.now(UTC)
    return Action(
        id=f"{seq:032x}",
        seq=seq,
        frame=f"frame-{seq}",
        status=Status.ADJUST,
        magnification=2000.0,
        targets={Axis.WD: wd_mm},
        deltas={Axis.WD: 0.0},
        score=5.0,
        reward=None,
        step=0,
        issued=issued,
        expires=issued + timedelta(seconds=lifetime_s),
    )


def publish(directory: Path, action: Action) -> None:
    temporary = directory / f".{action.file_name}.tmp"
    temporary.write_bytes(encode_action(action))
    temporary.rename(directory / action.file_name)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


class Sem:
    """A listening SEM of the `text` dialect.

    `manner` says what happens at each message: `ack`, `busy`, `nak`, `lose` (neither applied nor answered),
    `drop` (applied, not answered, closed), `ack-and-drop`, `half` (half an answer, then closed), `hang`.
    """

    def __init__(self, manner: Manner) -> None:
        self.manner = manner
        self.messages: list[Action] = []
        self.applied: list[int] = []
        self.raw: list[bytes] = []
        self.connections = 0
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                peer, _ = self._listener.accept()
                self.connections += 1
                with peer:
                    peer.settimeout(0.05)
                    self._talk(peer)

    def _talk(self, peer: socket.socket) -> None:
        pending = b""
        while not self._stop.is_set():
            try:
                data = peer.recv(4096)
            except TimeoutError:
                continue
            if not data:
                return
            pending += data
            while b"\n\n" in pending:
                message, _, pending = pending.partition(b"\n\n")
                if not self._answer(peer, message + b"\n"):
                    return

    def _answer(self, peer: socket.socket, message: bytes) -> bool:
        action = decode_action(message)
        self.messages.append(action)
        self.raw.append(message)
        manner = self.manner(len(self.messages))
        if manner == "busy":
            peer.sendall(f"BUSY {action.id}\n".encode())
        elif manner == "nak":
            peer.sendall(f"NAK {action.id} stage is locked\n".encode())
        elif manner != "lose":
            if action.seq not in self.applied:
                self.applied.append(action.seq)
            if manner in ("ack", "ack-and-drop"):
                peer.sendall(f"ACK {action.id}\n".encode())
            elif manner == "half":
                peer.sendall(f"ACK {action.id}".encode()[:11])
        return manner in ("ack", "busy", "nak", "hang")


def with_port(settings: MiddleClientSettings, port: int, **other: object) -> MiddleClientSettings:
    fields = {name: getattr(settings, name) for name in settings.__slots__}
    return MiddleClientSettings(**fields | {"port": port} | other)


@contextlib.contextmanager
def running(settings: MiddleClientSettings) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=run_middle_client, args=(settings,), kwargs={"stop": stop})
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@contextlib.contextmanager
def serving(manner: Manner) -> Iterator[Sem]:
    sem = Sem(manner)
    try:
        yield sem
    finally:
        sem.close()


def seqs_in(settings: MiddleClientSettings, folder: str) -> list[int]:
    return sorted(int(p.name.split("-")[1]) for p in (settings.action_directory / folder).glob("action-*.txt"))


def at_first(manner: str) -> Manner:
    return lambda number: manner if number == 1 else "ack"
