"""TCP client with non-blocking connection and automatic reconnection."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from semd.errors import LinkError
from semd.middle_client.backoff import Backoff
from semd.middle_client.clock import Clock
from semd.protocol.address import is_loopback

_GAP_S = 0.01
_KEEPALIVE_IDLE_S, _KEEPALIVE_INTERVAL_S, _KEEPALIVE_PROBES = 10, 5, 3


class Link(Protocol):
    """Interface of the link that the forwarders use."""

    @property
    def is_up(self) -> bool:
        """True while there is a connection."""

    @property
    def connection(self) -> int:
        """Number of the present or last connection, counted from 1; 0 before the first."""

    def send(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            LinkError: the connection broke; it is unknown how much of `data` arrived.
        """

    def receive(self) -> bytes:
        """Return the received bytes; empty if there are none or there is no connection.

        Raises:
            LinkError: the connection broke or the other side closed it.
        """

    def drop(self, reason: str) -> None:
        """Close the connection; the link reconnects by itself."""


class TcpLink:
    """TCP connection to the SEM.

    Args:
        host: host on which the SEM listens.
        port: its TCP port.
        allow_remote: True if the host may be another computer.
        connect_timeout_s: timeout of one connection attempt and of a send, in seconds.
        hello: messages written on connecting, each in a separate write.
        backoff: waiting times between attempts.
        clock: time source of the timeouts.
        pause: function that sleeps for the given number of seconds.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        allow_remote: bool,
        connect_timeout_s: float,
        hello: tuple[bytes, ...],
        backoff: Backoff,
        clock: Clock,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._host = host
        self._port = port
        self._allow_remote = allow_remote
        self._connect_timeout_s = connect_timeout_s
        self._hello = hello
        self._backoff = backoff
        self._clock = clock
        self._pause = pause
        self._socket: socket.socket | None = None
        self._connecting_until_s: float | None = None
        self._next_attempt_s = clock.monotonic_s()
        self._attempts = 0
        self._last_failure = ""
        self._connection = 0
        self._log = structlog.get_logger()

    @property
    def is_up(self) -> bool:
        """True while there is a connection."""
        return self._socket is not None and self._connecting_until_s is None

    @property
    def connection(self) -> int:
        """Number of the present or last connection, counted from 1; 0 before the first."""
        return self._connection

    def poll(self) -> None:
        """Start or continue connecting without blocking."""
        if self.is_up:
            return
        try:
            if self._socket is None:
                self._begin()
            else:
                self._finish(self._socket)
        except (OSError, UnicodeError) as error:  # UnicodeError: an invalid host name
            self._fail(str(error))

    def wait(self, timeout_s: float) -> None:
        """Wait until bytes arrive or the timeout ends."""
        if self._socket is None:
            self._pause(timeout_s)
        elif self._connecting_until_s is not None:
            # Windows reports a refused connection in the third set only.
            select.select([], [self._socket], [self._socket], timeout_s)
        else:
            select.select([self._socket], [], [], timeout_s)

    def send(self, data: bytes) -> None:
        """Send all of `data`; see `Link`."""
        if self._socket is None or not self.is_up:
            raise LinkError("there is no connection")
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise LinkError(f"sending failed: {error}") from error

    def receive(self) -> bytes:
        """Return the received bytes; see `Link`."""
        if self._socket is None or not self.is_up:
            return b""
        try:
            readable, _, _ = select.select([self._socket], [], [], 0.0)
            if not readable:
                return b""
            data = self._socket.recv(65536)
        except OSError as error:
            raise LinkError(f"receiving failed: {error}") from error
        if not data:
            raise LinkError("the SEM closed the connection")
        self._backoff.reset()  # the peer answers, so reconnect quickly after a loss
        return data

    def drop(self, reason: str) -> None:
        """Close the connection and reconnect after the backoff."""
        was_up = self.is_up
        self._discard()
        pause_s = self._backoff.next_s()
        self._next_attempt_s = self._clock.monotonic_s() + pause_s
        if was_up:
            self._log.warning("link.lost", reason=reason, again_in_s=round(pause_s, 3))

    def close(self, goodbye: bytes) -> None:
        """Close the connection for good, after writing `goodbye`."""
        if self._socket is not None and self.is_up and goodbye:
            try:
                self._pause(_GAP_S)
                self._socket.sendall(goodbye)
            except OSError as error:
                self._log.info("link.goodbye-failed", reason=str(error))
        if self.is_up:
            self._log.info("link.closed")
        self._discard()

    def _begin(self) -> None:
        if self._clock.monotonic_s() < self._next_attempt_s:
            return
        addresses = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        if not self._allow_remote:  # the host name may resolve to another computer while the process runs
            addresses = [found for found in addresses if is_loopback(str(found[4][0]))]
            if not addresses:
                raise OSError(f"{self._host} is not this computer, and [link] allow_remote is not set")
        family, kind, protocol, _, address = addresses[self._attempts % len(addresses)]
        self._attempts += 1
        self._socket = socket.socket(family, kind, protocol)
        self._socket.setblocking(False)
        self._connecting_until_s = self._clock.monotonic_s() + self._connect_timeout_s
        self._socket.connect_ex(address)  # the result is read from SO_ERROR
        self._finish(self._socket)

    def _finish(self, connecting: socket.socket) -> None:
        _, writable, failed = select.select([], [connecting], [connecting], 0.0)
        if not writable and not failed:
            if self._connecting_until_s is not None and self._clock.monotonic_s() > self._connecting_until_s:
                raise TimeoutError(f"no connection within {self._connect_timeout_s:g} s")
            return
        code = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        connecting.settimeout(self._connect_timeout_s)
        _tune(connecting)
        for index, word in enumerate(self._hello):
            if index:
                self._pause(_GAP_S)
            connecting.sendall(word)
        if self._hello:
            self._pause(_GAP_S)
        self._connecting_until_s = None
        self._connection += 1
        self._last_failure = ""
        self._log.info("link.connected", host=self._host, port=self._port, connection=self._connection)

    def _fail(self, reason: str) -> None:
        self._discard()
        pause_s = self._backoff.next_s()
        self._next_attempt_s = self._clock.monotonic_s() + pause_s
        if reason != self._last_failure:  # logged once, not at every attempt
            self._log.warning("link.unreachable", host=self._host, port=self._port, reason=reason)
        self._last_failure = reason

    def _discard(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._connecting_until_s = None


def _tune(connected: socket.socket) -> None:
    """Disable Nagle's algorithm, and enable keepalive to detect a peer that vanished without closing."""
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", _KEEPALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", _KEEPALIVE_PROBES),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            connected.setsockopt(socket.IPPROTO_TCP, option, value)
