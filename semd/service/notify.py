"""Notification of the service manager (systemd): ready, alive, stopping; and the mark of progress behind it.

The protocol is `sd_notify(3)`: datagrams of `KEY=value` lines to the socket that `NOTIFY_SOCKET` names. It is spoken by
the main loop alone, never by a thread or timer of its own: a loop that hangs must fall silent.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Mapping

import structlog

_SEND_PATIENCE_S = 0.1
"""A manager that does not read must not hold up the loop. What it misses is said again: ready at the next round, alive
at the next feed."""
_FEEDS_A_PERIOD = 4
"""The watchdog is fed this many times in its period, so that a lost datagram does not end the process."""


class ServiceManager:
    """The service manager, if there is one; without an address nothing is sent and only the mark is kept.

    Args:
        address: path of the socket, or `@` and the name of an abstract one; None for no manager.
        watchdog_s: the manager ends a process that has been silent this long; None when it does not.
        monotonic_s: the clock of the mark.

    Attributes:
        progress_s: when the main loop last completed a round, on `monotonic_s`; at first when this was made. An
            internal watchdog may read it from another thread.
    """

    def __init__(
        self,
        address: str | None = None,
        watchdog_s: float | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._feed_period_s = watchdog_s / _FEEDS_A_PERIOD if watchdog_s is not None else None
        self._monotonic_s = monotonic_s
        self._next_feed_s = float("-inf")
        self._is_ready = False
        self._status = ""
        self._failure = ""
        self.progress_s = monotonic_s()

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> ServiceManager:
        """The manager that started this process, as `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` name it."""
        return cls(environment.get("NOTIFY_SOCKET") or None, _watchdog_s(environment))

    def ready(self) -> None:
        """The process does its work from now on. Sent once, however often it is called."""
        if not self._is_ready:
            self._is_ready = self._send("READY=1")

    def progress(self) -> None:
        """The main loop has completed a round: set the mark, and feed the watchdog when that is due."""
        self.progress_s = self._monotonic_s()
        if self._feed_period_s is not None and self.progress_s >= self._next_feed_s:
            self._next_feed_s = self.progress_s + self._feed_period_s
            self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Say in one line how it goes, for `systemctl status`. Sent when it is another line than the last."""
        text = " ".join(text.split())
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def stopping(self) -> None:
        """The process is about to end because it was told to."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> bool:
        """Send one datagram; what fails is logged once and harms nothing else."""
        if self._address is None:
            return True
        try:
            _send_datagram(self._address, message.encode())
        except OSError as error:
            if str(error) != self._failure:
                structlog.get_logger().warning("notify.failed", address=self._address, reason=str(error))
            self._failure = str(error)
            return False
        self._failure = ""
        return True


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """Period of the watchdog; None when there is none, or when it is meant for another process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        period_us = int(environment.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return period_us * 1e-6 if period_us > 0 else None


if sys.platform == "win32":

    def _send_datagram(address: str, data: bytes) -> None:  # noqa: ARG001 - the other system's signature
        raise OSError(f"NOTIFY_SOCKET={address}: there is no such protocol on Windows; unset it")

else:

    def _send_datagram(address: str, data: bytes) -> None:
        if not address.startswith(("/", "@")):
            raise OSError(f"NOTIFY_SOCKET={address}: neither a path nor an abstract name")
        # An abstract name begins with a zero byte, which no environment variable can hold.
        name = "\0" + address[1:] if address.startswith("@") else address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(_SEND_PATIENCE_S)
            sender.sendto(data, name)
