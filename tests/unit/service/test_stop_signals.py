"""SIGTERM, Ctrl+C and Ctrl+Break stop a process in order; the last is played by another signal where there is none."""

from __future__ import annotations

import signal
import threading

import pytest

from semd.service.stop_signals import stopping_on_signals

PLAYED = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no signal to play Ctrl+Break with")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", pytest.param("SIGBREAK", marks=PLAYED)])
def test_each_asks_to_stop_and_has_its_old_meaning_afterwards(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(signal, "SIGBREAK"):
        monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    number = getattr(signal, name)
    before = signal.getsignal(number)
    asked: list[None] = []
    with stopping_on_signals(lambda: asked.append(None)):
        signal.raise_signal(number)
        signal.raise_signal(number)
    assert len(asked) == 2
    assert signal.getsignal(number) == before


def test_the_callback_may_take_a_lock_that_the_interrupted_code_holds() -> None:
    # As `Event.set` does while the main thread is on its way into or out of `Event.wait`.
    lock = threading.Lock()
    taken: list[bool] = []

    def stop() -> None:
        taken.append(lock.acquire(timeout=5.0))

    with stopping_on_signals(stop), lock:
        signal.raise_signal(signal.SIGTERM)
    assert taken == [True]


def test_a_second_one_ends_at_once_where_that_is_asked_for() -> None:
    before = signal.getsignal(signal.SIGINT)
    asked: list[None] = []

    def interrupt_twice() -> None:
        with stopping_on_signals(lambda: asked.append(None), second_ends=True):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupt_twice()
    assert len(asked) == 1
    assert signal.getsignal(signal.SIGINT) == before


def test_another_thread_than_the_main_one_leaves_them_alone() -> None:
    seen: list[object] = []

    def work() -> None:
        with stopping_on_signals(lambda: None):
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
