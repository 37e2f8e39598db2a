"""The signals that ask a process to stop: SIGTERM, Ctrl+C, and on Windows Ctrl+Break.

A service wrapper on Windows has no SIGTERM: it types Ctrl+C, or Ctrl+Break, into the process's console.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue

_NAMES = ("SIGTERM", "SIGINT", "SIGBREAK")


@contextmanager
def stopping_on_signals(stop: Callable[[], None], *, second_ends: bool = False) -> Iterator[None]:
    """Call `stop` when a signal asks for it; in another thread than the main one nothing is caught.

    Args:
        stop: called from a thread of its own, perhaps more than once; must not wait for long.
        second_ends: a second signal raises KeyboardInterrupt in the main thread instead.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A handler runs between any two instructions of the main thread, also while that holds the lock within an event: to
    # set the event there would wait for that lock for ever. To put into this queue takes none.
    asked: SimpleQueue[bool] = SimpleQueue()
    asker = threading.Thread(target=_ask, args=(asked, stop), name="stop-signals", daemon=True)
    caught = 0

    def on_signal(_number: int, _frame: object) -> None:
        nonlocal caught
        caught += 1
        if second_ends and caught > 1:
            raise KeyboardInterrupt
        asked.put(True)

    asker.start()
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        asked.put(False)
        asker.join()


def _ask(asked: SimpleQueue[bool], stop: Callable[[], None]) -> None:
    while asked.get():
        stop()
