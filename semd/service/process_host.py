"""Host of a long-running process: one instance, failpoints, logs, stop signals and hang guard, in that order.

The daemon and the Middle Client run their loops in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from semd.service.failpoints import arm
from semd.service.hang_guard import HangGuard
from semd.service.notify import ServiceManager
from semd.service.stop_signals import stopping_on_signals
from semd.service.storage import InstanceLock


@contextmanager
def hosted_process(
    state_directory: Path,
    *,
    lock_file: str,
    hung_file: str,
    end_hung_s: float,
    stop: Callable[[], None],
    manager: ServiceManager | None = None,
    configure: Callable[[], None] = lambda: None,
) -> Iterator[ServiceManager]:
    """Host the body of the `with` statement as the only process of its kind on a state directory.

    Args:
        state_directory: directory of the lock and of the hang report.
        lock_file: name of the lock; a second process with the same lock is refused.
        hung_file: name of the file that the stacks of a hung process are appended to.
        end_hung_s: time in s without progress after which the process is ended; 0 disables the guard.
        stop: called when a signal asks the process to stop.
        manager: service manager to report to; by default the one that the environment names.
        configure: sets up the logs; called once the lock is held, so that no other process writes the same file.

    Yields:
        The service manager; the guard watches its mark of progress.

    Raises:
        ConfigError: the environment arms a failpoint outside a test.
        StorageError: another process holds the lock, or the directory cannot be written.
    """
    with InstanceLock(state_directory / lock_file):
        arm(os.environ, state_directory)
        configure()
        reported = manager if manager is not None else ServiceManager.of_environment()
        guard = HangGuard(lambda: reported.progress_s, end_hung_s, state_directory / hung_file)
        with stopping_on_signals(stop), guard:
            yield reported
