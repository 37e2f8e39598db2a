"""Hints from the file system that something may have happened. The scan is the truth; this only wakes it sooner.

The only file that knows watchdog. Events get lost (queue overflow, network shares), emitters die silently, and a
replaced directory is watched no more: so whoever uses this rescans on a period and asks `healthy`.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.observers.polling import PollingObserver

from semd.errors import StorageError
from semd.service.storage import storage_error

_STOP_TIMEOUT_S = 5.0


@dataclass(slots=True)
class Hints:
    """Changes since the last scan.

    Attributes:
        touched: names that were made, changed, closed or renamed.
        closed: names whose writer has closed them, or that were renamed into place, and not changed since.
        lost: True where the system has dropped events, so that nothing is known without looking at everything.
    """

    touched: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)
    lost: bool = False


class Watch:
    """Watches one directory, not its subdirectories.

    Args:
        directory: the watch directory.
        polling: use polling, for network shares, in place of the system's events.
        period_s: of the polling.
    """

    def __init__(self, directory: Path, *, polling: bool = False, period_s: float = 0.5) -> None:
        self._directory = directory
        self._polling = polling
        self._period_s = period_s
        self._handler = _EventHandler()
        self._observer: BaseObserver | None = None
        self._identity: tuple[int, int] | None = None

    def start(self) -> None:
        """Begin to watch, also anew after doubt.

        Raises:
            StorageError: the directory cannot be watched.
        """
        self.stop()
        observer = PollingObserver(timeout=self._period_s) if self._polling else Observer()
        try:
            self._identity = _identity(self._directory)
            observer.schedule(self._handler, str(self._directory), recursive=False)
            observer.start()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EMFILE):  # inotify's, not the disk's
                raise StorageError(
                    f"{self._directory}: cannot watch: the system's limit of watches is reached; raise "
                    'fs.inotify.max_user_watches and max_user_instances, or set [watch] observer = "polling"'
                ) from error
            raise storage_error(self._directory, "watch", error) from error
        self._observer = observer
        self._hear_overflows(observer)
        self._handler.wake.set()

    def _hear_overflows(self, observer: BaseObserver) -> None:
        """Be told when inotify's queue overflows: watchdog's group of watches knows, and tells no handler."""
        for emitter in observer.emitters:
            group = getattr(emitter, "_inotify", None)
            on_overflow = getattr(group, "on_queue_overflow", None)
            if group is None or on_overflow is None:
                continue  # another system, or an older watchdog: the scan finds on its period what events missed

            def overflowed(before: Callable[[], None] = on_overflow) -> None:
                before()
                self._handler.lose()

            group.on_queue_overflow = overflowed

    def stop(self) -> None:
        """Stop watching."""
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join(_STOP_TIMEOUT_S)

    def healthy(self) -> bool:
        """Return True if events can still come: emitters alive, and the directory still the one that is watched."""
        if self._observer is None or not self._observer.is_alive():
            return False
        if not all(emitter.is_alive() for emitter in self._observer.emitters):
            return False
        try:
            return _identity(self._directory) == self._identity
        except OSError:
            return False

    def wait(self, timeout_s: float) -> bool:
        """Wait for a hint or for `wake`; returns whether there was one."""
        return self._handler.wake.wait(timeout_s)

    def wake(self) -> None:
        """End a `wait` now."""
        self._handler.wake.set()

    def drain(self) -> Hints:
        """Take what happened since the last call."""
        return self._handler.drain()


class _EventHandler(FileSystemEventHandler):
    """Collects names; runs in watchdog's thread, must never raise."""

    def __init__(self) -> None:
        self.wake = threading.Event()
        self._lock = threading.Lock()
        self._hints = Hints()

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.is_directory:
            return
        name = _name(event.src_path)
        with self._lock:
            if event.event_type == "moved":
                self._hints.closed.discard(name)
                self._hints.touched.add(name)
                name = _name(event.dest_path)
                self._hints.closed.add(name)
            elif event.event_type == "closed":
                self._hints.closed.add(name)
            elif event.event_type in ("created", "modified", "deleted"):
                self._hints.closed.discard(name)
            else:
                return  # opened, closed without writing: nothing has changed
            self._hints.touched.add(name)
        self.wake.set()

    def lose(self) -> None:
        """Events were dropped; of none is it known any more whether its file was left alone since."""
        with self._lock:
            self._hints.lost = True
            self._hints.closed.clear()
        self.wake.set()

    def drain(self) -> Hints:
        with self._lock:
            self.wake.clear()
            hints, self._hints = self._hints, Hints()
        return hints


def _name(path: bytes | str) -> str:
    return os.path.basename(os.fsdecode(path))  # noqa: PTH119 - an event's path may be bytes


def _identity(directory: Path) -> tuple[int, int]:
    stat = directory.stat()
    return stat.st_dev, stat.st_ino
