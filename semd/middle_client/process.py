"""The Middle Client's process: the loop, the signals and the heartbeat."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import structlog

from semd.domain.axes import Axis
from semd.errors import StorageError
from semd.metrics import CLIENT_METRICS_FILE, render
from semd.middle_client.action_folder import ActionFolder
from semd.middle_client.aisem_forwarder import AisemForwarder
from semd.middle_client.backoff import Backoff
from semd.middle_client.clock import Clock
from semd.middle_client.desk import Desk
from semd.middle_client.framing import AISEM_GOODBYE, AISEM_HELLO, Templates
from semd.middle_client.journal import Journal
from semd.middle_client.link import TcpLink
from semd.middle_client.metrics import client_metrics
from semd.middle_client.settings import MiddleClientSettings
from semd.middle_client.text_forwarder import TextForwarder
from semd.notify import ServiceManager
from semd.storage import InstanceLock, write_atomically

JOURNAL_FILE = "middle-client.json"
HEALTH_FILE = "middle-client-health.json"
LOCK_FILE = "middle-client.lock"

_HEARTBEAT_S = 1.0
_STORAGE_PAUSE_S = 0.5
_RECONNECT_FIRST_S, _RECONNECT_LIMIT_S = 0.1, 3.0
_BUSY_FIRST_S, _BUSY_LIMIT_S = 0.1, 2.0


def run_middle_client(
    settings: MiddleClientSettings, *, stop: threading.Event | None = None, manager: ServiceManager | None = None
) -> int:
    """Forward actions until told to stop (SIGTERM, SIGINT, or `stop`).

    Args:
        settings: see there.
        stop: set it to end the loop; for callers that have no signals.
        manager: told how the loop fares; by default the one that the environment names.

    Returns:
        The exit status, 0.

    Raises:
        StorageError: another Middle Client runs on this state directory, or it cannot be written.
    """
    stop = stop if stop is not None else threading.Event()
    manager = manager if manager is not None else ServiceManager.of_environment()
    clock = Clock()
    rng = random.Random()  # noqa: S311 - spreads attempts in time, keeps no secret
    is_aisem = settings.dialect == "aisem"
    with InstanceLock(settings.state_directory / LOCK_FILE), _signals(stop):
        log = structlog.get_logger()
        log.info("middle-client.started", pid=os.getpid(), dialect=settings.dialect)
        link = TcpLink(
            settings.host,
            settings.port,
            connect_timeout_s=settings.connect_timeout_s,
            hello=AISEM_HELLO if is_aisem else (),
            backoff=Backoff(_RECONNECT_FIRST_S, _RECONNECT_LIMIT_S, rng),
            clock=clock,
        )
        folder = ActionFolder(settings.action_directory)
        desk = Desk(folder, Journal(settings.state_directory / JOURNAL_FILE), clock)
        forwarder = _forwarder(settings, desk, link, clock, rng)
        try:
            _loop(settings, stop, clock, link, desk, forwarder, manager)
        finally:
            link.close(AISEM_GOODBYE if is_aisem else b"")
            log.info("middle-client.stopped", **desk.outcomes)
    return 0


def _forwarder(
    settings: MiddleClientSettings, desk: Desk, link: TcpLink, clock: Clock, rng: random.Random
) -> TextForwarder | AisemForwarder:
    if settings.dialect == "text":
        return TextForwarder(
            desk,
            link,
            clock,
            answer_timeout_s=settings.answer_timeout_s,
            backoff=Backoff(_BUSY_FIRST_S, _BUSY_LIMIT_S, rng),
        )
    return AisemForwarder(
        desk,
        link,
        clock,
        templates=Templates(settings.brightness_command, settings.contrast_command),
        tolerances={
            Axis.WD: settings.readback_wd_mm,
            Axis.BRIGHTNESS: settings.readback_scale,
            Axis.CONTRAST: settings.readback_scale,
        },
        answer_timeout_s=settings.answer_timeout_s,
        confirm_timeout_s=settings.confirm_timeout_s,
    )


def _loop(
    settings: MiddleClientSettings,
    stop: threading.Event,
    clock: Clock,
    link: TcpLink,
    desk: Desk,
    forwarder: TextForwarder | AisemForwarder,
    manager: ServiceManager,
) -> None:
    log = structlog.get_logger()
    heartbeat = _Heartbeat(settings, clock)
    trouble = ""
    while not stop.is_set():
        link.poll()
        try:
            forwarder.step()
        except StorageError as error:
            if str(error) != trouble:  # said once, not at every attempt
                log.error(  # noqa: TRY400 - the traceback adds nothing
                    "storage.failed", error=error.code, reason=error.message
                )
            trouble = str(error)
        else:
            if trouble:
                log.info("storage.recovered")
            trouble = ""
            manager.ready()  # the action directory has been read; the link may come later
        manager.status(_in_words(link, trouble))
        heartbeat.beat(link, desk, trouble)
        # A failure that is known and tried again is a round too: a restart would not empty a full disk.
        manager.progress()
        if trouble:
            stop.wait(_STORAGE_PAUSE_S)
        else:
            link.wait(settings.poll_s)
    manager.stopping()


def _in_words(link: TcpLink, trouble: str) -> str:
    """The line of `systemctl status`; without counts, which would be a datagram for every action."""
    return trouble or f"the link is {'up' if link.is_up else 'down'}"


class _Heartbeat:
    """Tells those who watch the process how it fares, once a second and at once when the link changes."""

    def __init__(self, settings: MiddleClientSettings, clock: Clock) -> None:
        self._path = settings.state_directory / HEALTH_FILE
        self._metrics_path = settings.state_directory / CLIENT_METRICS_FILE
        self._started_at = clock.now().timestamp()
        self._dialect = settings.dialect
        self._clock = clock
        self._due_s = clock.monotonic_s()
        self._link_was_up: bool | None = None
        self._failed = False

    def beat(self, link: TcpLink, desk: Desk, trouble: str) -> None:
        """Write the heartbeat file when it is due. A full disk must not stop the loop."""
        now_s = self._clock.monotonic_s()
        if now_s < self._due_s and link.is_up == self._link_was_up:
            return
        self._due_s, self._link_was_up = now_s + _HEARTBEAT_S, link.is_up
        now = self._clock.now()
        record = {
            "written_at": now.timestamp(),
            "at": now.isoformat(timespec="milliseconds"),
            "pid": os.getpid(),
            "dialect": self._dialect,
            "link_up": link.is_up,
            "connections": link.connection,
            "pending": desk.pending_count,
            "in_flight": desk.flight.name if desk.flight is not None else None,
            "newest_acknowledged_seq": desk.newest_acknowledged_seq,
            "outcomes": dict(desk.outcomes),
            "trouble": trouble,
        }
        metrics = client_metrics(
            written_at=now.timestamp(),
            started_at=self._started_at,
            link_up=link.is_up,
            connections=link.connection,
            pending=desk.pending_count,
            storage_ok=not trouble,
            outcomes=desk.outcomes,
        )
        try:
            write_atomically(self._path, json.dumps(record).encode(), durable=False)
            write_atomically(self._metrics_path, render(metrics), durable=False)
        except StorageError as error:
            if not self._failed:
                structlog.get_logger().warning("heartbeat.failed", reason=error.message)
            self._failed = True
        else:
            self._failed = False


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT end the loop; in another thread than the main one nothing is caught."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
