"""Ends a process whose main loop hangs, so that the service manager starts it again; first it says where it hung.

It looks at the mark of progress behind systemd's watchdog (`semd.service.notify.ServiceManager.progress_s`): the main
loop sets it, never a thread of its own. What hangs may hold any lock, that of the logs for one, and native code may
hold the interpreter's own. So nothing here waits for a lock without end, and a timer in C stands behind the thread.
"""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import structlog

from semd.service.storage import storage_error

HUNG_EXIT_STATUS = 70
"""No command of semd ends with it otherwise. (`EX_SOFTWARE` of sysexits.h.)"""

_START_PATIENCE_S = 180.0
"""Before the first round models are loaded and the ledger is gone through: as long as the unit's TimeoutStartSec."""
_REPORT_PATIENCE_S = 5.0
_LOOKS = 8
"""In the time that a hang may last."""
_MAX_STACK_BYTES = 1 << 20


class HangGuard:
    """Watches the mark of progress from a thread, between entering and leaving the context.

    Args:
        progress_s: the mark; any other value than the last one is progress.
        limit_s: how long it may stay as it is; 0 guards nothing.
        stack_path: the stacks of all threads are appended here; begun anew when it has grown large.
        start_patience_s: how long the first progress may take, if that is more than `limit_s`.
        native_grace_s: so much later the timer in C ends a process whose interpreter runs nothing any more. It
            writes the stacks too, but no log, and the exit status is then 1.
        monotonic_s: the clock of the guard.
        end: ends the process at once.

    Raises on entering:
        StorageError: `stack_path` cannot be written.
    """

    def __init__(
        self,
        progress_s: Callable[[], float],
        limit_s: float,
        stack_path: Path,
        *,
        start_patience_s: float = _START_PATIENCE_S,
        native_grace_s: float = 30.0,
        monotonic_s: Callable[[], float] = time.monotonic,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self._progress_s = progress_s
        self._limit_s = limit_s
        self._stack_path = stack_path
        self._start_patience_s = max(start_patience_s, limit_s)
        self._native_grace_s = native_grace_s
        self._monotonic_s = monotonic_s
        self._end = end
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._stacks: BinaryIO | None = None
        self._is_enabler = False

    def __enter__(self) -> HangGuard:
        """Begin to watch."""
        if self._limit_s > 0.0:
            self._stacks = self._open()
            if not faulthandler.is_enabled():
                # systemd's watchdog ends a process by SIGABRT: its stacks are written here as well.
                faulthandler.enable(self._stacks)
                self._is_enabler = True
            self._thread = threading.Thread(target=self._watch, args=(self._stacks,), name="hang-guard", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Watch no longer."""
        self._over.set()
        if self._thread is None or self._stacks is None:
            return
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()
        if self._is_enabler:
            faulthandler.disable()
        self._stacks.close()

    def _open(self) -> BinaryIO:
        try:
            is_large = self._stack_path.exists() and self._stack_path.stat().st_size > _MAX_STACK_BYTES
            return self._stack_path.open("wb" if is_large else "ab")
        except OSError as error:
            raise storage_error(self._stack_path, "write", error) from error

    def _watch(self, stacks: BinaryIO) -> None:
        period_s = self._limit_s / _LOOKS
        mark_s, patience_s = self._progress_s(), self._start_patience_s
        silent_s, looked_s = 0.0, self._monotonic_s()
        while True:
            faulthandler.dump_traceback_later(
                patience_s - silent_s + period_s + self._native_grace_s, file=stacks, exit=True
            )
            if self._over.wait(period_s):
                return
            now_s = self._monotonic_s()
            # A computer that slept, or a process that was held, has not hung: time nobody looked counts for little.
            silent_s += min(now_s - looked_s, 2.0 * period_s)
            looked_s = now_s
            if self._progress_s() != mark_s:
                mark_s, patience_s, silent_s = self._progress_s(), self._limit_s, 0.0
            elif silent_s > patience_s:
                reporter = threading.Thread(target=self._report, args=(stacks, silent_s), daemon=True)
                reporter.start()
                reporter.join(_REPORT_PATIENCE_S)
                self._end(HUNG_EXIT_STATUS)
                return

    def _report(self, stacks: BinaryIO, silent_s: float) -> None:
        """Write the stacks to their file, then to the log, which may be what hangs."""
        begin = stacks.seek(0, os.SEEK_END)
        stacks.write(f"{datetime.now(UTC).isoformat()} no progress for {silent_s:.1f} s\n".encode())
        stacks.flush()
        faulthandler.dump_traceback(stacks, all_threads=True)
        with self._stack_path.open("rb") as file:
            file.seek(begin)
            text = file.read(_MAX_STACK_BYTES).decode("utf-8", "replace")
        structlog.get_logger().critical(
            "process.hung", silent_s=round(silent_s, 1), exit_status=HUNG_EXIT_STATUS, stacks=text
        )
