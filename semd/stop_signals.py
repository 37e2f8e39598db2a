"""The signals that ask a process to stop: SIGTERM, Ctrl+C, and on Windows Ctrl+Break.

A service wrapper on Windows has no SIGTERM: it types Ctrl+C, or Ctrl+Break, into the process's console.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_NAMES = ("SIGTERM", "SIGINT", "SIGBREAK")


@contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` when a signal asks for it; in another thread than the main one nothing is caught.

    Args:
        stop: called between two instructions of the main thread, perhaps more than once; must not wait.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(_number: int, _frame: object) -> None:
        stop()

    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
