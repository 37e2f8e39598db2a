"""The daemon's loop: wait for a hint, look, answer what is complete, say how it goes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from semd.daemon.answering import Answerer
from semd.daemon.daemon_metrics import write_metrics
from semd.daemon.health import DaemonHealth, write_health
from semd.daemon.health_probes import HealthProbes, ProbeTargets
from semd.errors import LedgerError, StorageError
from semd.inbox.frame import LoadedFrame
from semd.inbox.inbox import Inbox
from semd.inbox.watch import Watch
from semd.service.failpoints import Failpoint, reach
from semd.service.memory import peak_memory_mb
from semd.service.notify import ServiceManager

_HEALTH_PERIOD_S = 1.0
_RETRY_S = 0.5


class Loop:
    """Answers frames until told to stop.

    Args:
        inbox: where complete frames come from.
        watch: wakes the loop.
        answerer: what is done with the frames.
        state_directory: where health.json goes.
        stop: set to end the loop after the frame in hand.
        manager: told when the watch is in place, of every round completed, and when the loop ends.
        probe_targets: what else is watched for health.json and the metrics.
        upkeep: called after every round, for what has time and must not take long.
    """

    def __init__(
        self,
        inbox: Inbox,
        watch: Watch,
        answerer: Answerer,
        state_directory: Path,
        stop: threading.Event,
        *,
        manager: ServiceManager | None = None,
        probe_targets: ProbeTargets | None = None,
        upkeep: Callable[[], None] = lambda: None,
    ) -> None:
        self._inbox = inbox
        self._watch = watch
        self._answerer = answerer
        self._state_directory = state_directory
        self._stop = stop
        self._manager = manager if manager is not None else ServiceManager()
        self._probes = HealthProbes(probe_targets if probe_targets is not None else ProbeTargets())
        self._upkeep = upkeep
        self._looked_s = time.monotonic()
        self._log = structlog.get_logger()
        self._storage_ok = False
        self._directory_ok = False
        self._next_health_s = 0.0
        self._complaint: str | None = None
        self._watch_complaint: str | None = None
        self._health_is_written = True

    def run(self) -> None:
        """Answer frames until `stop` is set. What fails for want of storage is tried again until it succeeds."""
        while not self._stop.is_set():
            try:
                if not self._storage_ok:
                    self._answerer.recover()
                    self._storage_ok = True
                self._look()
                self._complain(None)
            except (StorageError, LedgerError) as error:
                self._complain(error)
                self._stop.wait(_RETRY_S)
            if self._storage_ok:
                self._upkeep()
            self._say_health(time.monotonic())
            # A failure that is known and tried again is a round too: a restart would not empty a full disk.
            self._manager.progress()
            if not self._stop.is_set():
                now_s = time.monotonic()
                self._watch.wait(min(self._inbox.next_look_s(now_s), max(0.0, self._next_health_s - now_s)))
        self._manager.stopping()
        self._watch.stop()

    def _look(self) -> None:
        """One look at the watch directory, and every frame that is ready."""
        force_rescan = not self._directory_ok
        watch_error: StorageError | None = None
        if not self._watch.healthy():
            self._directory_ok = False
            force_rescan = True
            try:
                self._watch.start()
                self._probes.watch_began()
            except StorageError as error:
                watch_error = error  # the scan finds the frames all the same, only later
        hints = self._watch.drain()
        if hints.lost:
            self._log.warning("watch.overflow", consequence="the whole directory is scanned now")
        self._probes.events(hints.touched)
        items = self._inbox.poll(hints, time.monotonic(), force_rescan=force_rescan)
        self._directory_ok = True
        self._looked_s = time.monotonic()
        self._manager.ready()
        if watch_error is not None and str(watch_error) != self._watch_complaint:
            self._log.warning("watch.failed", error=watch_error.code, reason=watch_error.message)
        self._watch_complaint = str(watch_error) if watch_error is not None else None
        for item in items:
            if self._stop.is_set():
                return
            if watch_error is None:
                self._probes.found(item.fingerprint)
            # Whatever fails from here on is taken up by `recover`.
            self._storage_ok = False
            reach(Failpoint.FRAME_READ)
            if isinstance(item.content, LoadedFrame):
                self._answerer.answer(item.content, item.fingerprint)
            else:
                self._answerer.reject(item.content, item.fingerprint)
            self._inbox.settle(item)
            reach(Failpoint.FRAME_SETTLED)
            self._storage_ok = True
            self._manager.progress()

    def _complain(self, error: StorageError | LedgerError | None) -> None:
        """Log a failure once, not on every attempt, and its end."""
        complaint = str(error) if error is not None else None
        if complaint == self._complaint:
            return
        self._complaint = complaint
        if error is None:
            self._log.info("storage.recovered")
        else:
            self._log.error("storage.failed", error=error.code, reason=error.message)

    def _say_health(self, now_s: float) -> None:
        if now_s < self._next_health_s:
            return
        self._next_health_s = now_s + _HEALTH_PERIOD_S
        last = self._answerer.last
        probes = self._probes
        probes.measure(now_s, self._inbox.waiting)
        health = DaemonHealth(
            written_at=time.time(),
            started_at=probes.started_at,
            pid=os.getpid(),
            watching=self._watch.healthy(),
            unheard_frames=probes.unheard_frames,
            directory_ok=self._directory_ok,
            scan_age_s=round(now_s - self._looked_s, 3),
            storage_ok=self._storage_ok,
            waiting=self._inbox.waiting,
            queue_growing_s=probes.queue_growing_s,
            answered=self._answerer.answered,
            quarantined=self._answerer.quarantined,
            last_frame=last[0] if last is not None else None,
            last_status=str(last[1]) if last is not None else None,
            memory_mb=peak_memory_mb(),
            models=self._answerer.models_digest,
            models_unchanged=probes.models_unchanged,
            disk_free_mb=probes.disk_free_mb,
            unreadable=self._inbox.unreadable,
            failed_in_a_row=self._answerer.failed_in_a_row,
        )
        self._manager.status(_in_words(health))
        try:
            write_health(self._state_directory, health)
            write_metrics(self._state_directory, health)
        except StorageError as error:
            if self._health_is_written:  # said once, not every second
                self._log.warning("health.unwritten", error=error.code, reason=error.message)
            self._health_is_written = False
        else:
            self._health_is_written = True


def _in_words(health: DaemonHealth) -> str:
    """The line of `systemctl status`."""
    if not health.directory_ok:
        return "the watch directory cannot be scanned"
    if not health.storage_ok:
        return "ledger or action directory cannot be written"
    last = f"; last {health.last_status} for {health.last_frame}" if health.last_frame is not None else ""
    return f"{health.answered} frames answered, {health.waiting} waiting{last}"
