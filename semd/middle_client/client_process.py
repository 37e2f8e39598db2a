"""The Middle Client's process: the loop, the signals and the heartbeat."""

from __future__ import annotations

import json
import os
import random
import threading

import structlog

from semd.domain.axes import Axis
from semd.errors import StorageError
from semd.middle_client.abort import AbortFile
from semd.middle_client.action_folder import ActionFolder
from semd.middle_client.aisem_forwarder import AisemForwarder
from semd.middle_client.audit import TRAIL_FOLDER, AuditTrail
from semd.middle_client.backoff import Backoff
from semd.middle_client.client_metrics import client_metrics
from semd.middle_client.clock import Clock
from semd.middle_client.dry_run import DryRunForwarder, NoLink
from semd.middle_client.framing import AISEM_GOODBYE, AISEM_HELLO, Templates
from semd.middle_client.gate import Gate, RateLimit
from semd.middle_client.journal import Journal
from semd.middle_client.link import TcpLink
from semd.middle_client.pending import PendingActions
from semd.middle_client.settings import MiddleClientSettings
from semd.middle_client.text_forwarder import TextForwarder
from semd.service.failpoints import Failpoint
from semd.service.metrics import CLIENT_METRICS_FILE, render
from semd.service.notify import ServiceManager
from semd.service.process_host import hosted_process
from semd.service.storage import WritePoints, write_atomically

JOURNAL_FILE = "middle-client.json"
HEALTH_FILE = "middle-client-health.json"
LOCK_FILE = "middle-client.lock"
HUNG_FILE = "middle-client-hung.txt"

_HEALTH_POINTS = WritePoints(Failpoint.CLIENT_HEALTH)
_HEARTBEAT_S = 1.0
_STORAGE_PAUSE_S = 0.5
_RECONNECT_FIRST_S, _RECONNECT_LIMIT_S = 0.1, 3.0
_BUSY_FIRST_S, _BUSY_LIMIT_S = 0.1, 2.0

_Forwarder = TextForwarder | AisemForwarder | DryRunForwarder


def run_middle_client(
    settings: MiddleClientSettings, *, stop: threading.Event | None = None, manager: ServiceManager | None = None
) -> int:
    """Forward actions until told to stop (SIGTERM, Ctrl+C, Ctrl+Break, or `stop`).

    Args:
        settings: the settings.
        stop: event that ends the loop, for callers that cannot send signals.
        manager: service manager that is told the state of the loop; by default the one named in the environment.

    Returns:
        The exit status, 0.

    Raises:
        StorageError: another Middle Client uses this state directory, or it cannot be written.
        ConfigError: the environment arms a failpoint outside a test.
    """
    stop = stop if stop is not None else threading.Event()
    clock = Clock()
    rng = random.Random()  # noqa: S311 - jitter of reconnections, not a secret
    is_aisem = settings.dialect == "aisem"
    with hosted_process(
        settings.state_directory,
        lock_file=LOCK_FILE,
        hung_file=HUNG_FILE,
        end_hung_s=settings.end_hung_s,
        stop=stop.set,
        manager=manager,
    ) as reported:
        log = structlog.get_logger()
        log.info("middle-client.started", pid=os.getpid(), dialect=settings.dialect, dry_run=settings.dry_run)
        rate = RateLimit(settings.most_commands_per_minute, clock)
        pending = PendingActions(
            ActionFolder(settings.action_directory),
            Journal(settings.state_directory / JOURNAL_FILE),
            clock,
            trail=AuditTrail(settings.state_directory / TRAIL_FOLDER, clock),
            profile=settings.profile,
            rate=rate,
        )
        gate = Gate(AbortFile(settings.action_directory, settings.abort_file), rate)
        link: TcpLink | NoLink
        forwarder: _Forwarder
        if settings.dry_run:
            link = NoLink(stop.wait)
            forwarder = DryRunForwarder(pending, gate, _templates(settings) if is_aisem else None)
        else:
            link = TcpLink(
                settings.host,
                settings.port,
                allow_remote=settings.allow_remote,
                connect_timeout_s=settings.connect_timeout_s,
                hello=AISEM_HELLO if is_aisem else (),
                backoff=Backoff(_RECONNECT_FIRST_S, _RECONNECT_LIMIT_S, rng),
                clock=clock,
            )
            forwarder = _forwarder(settings, pending, link, gate, clock, rng)
        try:
            _loop(settings, stop, clock, link, pending, gate, forwarder, reported)
        finally:
            link.close(AISEM_GOODBYE if is_aisem else b"")
            _close(pending)
            log.info("middle-client.stopped", **pending.outcomes)
    return 0


def _close(pending: PendingActions) -> None:
    """Write the last line of the audit trail. An error is only logged and does not hide why the process ends."""
    try:
        pending.close()
    except StorageError as error:
        structlog.get_logger().error("storage.failed", error=error.code, reason=error.message)


def _templates(settings: MiddleClientSettings) -> Templates:
    return Templates(settings.brightness_command, settings.contrast_command)


def _forwarder(
    settings: MiddleClientSettings, pending: PendingActions, link: TcpLink, gate: Gate, clock: Clock, rng: random.Random
) -> TextForwarder | AisemForwarder:
    if settings.dialect == "text":
        return TextForwarder(
            pending,
            link,
            clock,
            gate=gate,
            answer_timeout_s=settings.answer_timeout_s,
            backoff=Backoff(_BUSY_FIRST_S, _BUSY_LIMIT_S, rng),
        )
    return AisemForwarder(
        pending,
        link,
        clock,
        gate=gate,
        templates=_templates(settings),
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
    link: TcpLink | NoLink,
    pending: PendingActions,
    gate: Gate,
    forwarder: _Forwarder,
    manager: ServiceManager,
) -> None:
    log = structlog.get_logger()
    heartbeat = _Heartbeat(settings, clock)
    trouble = ""
    while not stop.is_set():
        link.poll()
        gate.look()  # also while nothing is pending, because the heartbeat reports an abort
        try:
            forwarder.step()
        except StorageError as error:
            if str(error) != trouble:  # logged once, not at every attempt
                log.error(  # noqa: TRY400 - the traceback adds nothing
                    "storage.failed", error=error.code, reason=error.message
                )
            trouble = str(error)
        else:
            if trouble:
                log.info("storage.recovered")
            trouble = ""
            manager.ready()  # the action directory has been read; the link may come later
        manager.status(trouble or gate.aborted or _status_line(settings, link))
        heartbeat.beat(link, pending, gate.aborted, trouble)
        # A storage error that is retried counts as progress: a restart would not remove it.
        manager.progress()
        if trouble:
            stop.wait(_STORAGE_PAUSE_S)
        else:
            link.wait(settings.poll_s)
    manager.stopping()


def _status_line(settings: MiddleClientSettings, link: TcpLink | NoLink) -> str:
    """Return the status line of `systemctl status`. It has no counts, which would need a datagram for each action."""
    return "dry run: nothing is sent" if settings.dry_run else f"the link is {'up' if link.is_up else 'down'}"


class _Heartbeat:
    """Writer of the heartbeat file and the metrics, each second and on a change of the link or the abort."""

    def __init__(self, settings: MiddleClientSettings, clock: Clock) -> None:
        self._path = settings.state_directory / HEALTH_FILE
        self._metrics_path = settings.state_directory / CLIENT_METRICS_FILE
        self._started_at = clock.now().timestamp()
        self._dialect = settings.dialect
        self._dry_run = settings.dry_run
        self._clock = clock
        self._due_s = clock.monotonic_s()
        self._last_seen: tuple[bool, bool] | None = None
        self._failed = False

    def beat(self, link: TcpLink | NoLink, pending: PendingActions, aborted: str | None, trouble: str) -> None:
        """Write the heartbeat file and the metrics when they are due. A storage error does not stop the loop."""
        now_s = self._clock.monotonic_s()
        seen = (link.is_up, aborted is not None)
        if now_s < self._due_s and seen == self._last_seen:
            return
        self._due_s, self._last_seen = now_s + _HEARTBEAT_S, seen
        now = self._clock.now()
        record = {
            "written_at": now.timestamp(),
            "at": now.isoformat(timespec="milliseconds"),
            "pid": os.getpid(),
            "dialect": self._dialect,
            "dry_run": self._dry_run,
            "aborted": aborted,
            "link_up": link.is_up,
            "connections": link.connection,
            "pending": pending.count,
            "in_flight": pending.in_flight.name if pending.in_flight is not None else None,
            "newest_acknowledged_seq": pending.newest_acknowledged_seq,
            "outcomes": dict(pending.outcomes),
            "trouble": trouble,
        }
        metrics = client_metrics(
            written_at=now.timestamp(),
            started_at=self._started_at,
            link_up=link.is_up,
            connections=link.connection,
            pending=pending.count,
            storage_ok=not trouble,
            aborted=aborted is not None,
            dry_run=self._dry_run,
            outcomes=pending.outcomes,
        )
        try:
            write_atomically(self._path, json.dumps(record).encode(), durable=False, points=_HEALTH_POINTS)
            write_atomically(self._metrics_path, render(metrics), durable=False, points=_HEALTH_POINTS)
        except StorageError as error:
            if not self._failed:
                structlog.get_logger().warning("heartbeat.failed", reason=error.message)
            self._failed = True
        else:
            self._failed = False
