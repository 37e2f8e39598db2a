"""The guard against hangs: what counts as one, what it leaves behind, and what it leaves alone."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from semd.errors import StorageError
from semd.service.hang_guard import HUNG_EXIT_STATUS, HangGuard

PATIENCE_S = 20.0
LIMIT_S = 0.08


class Ending:
    """Stands in for the end of the process."""

    def __init__(self) -> None:
        self.status: int | None = None
        self._ended = threading.Event()

    def __call__(self, status: int) -> None:
        self.status = status
        self._ended.set()

    def came(self) -> bool:
        return self._ended.wait(PATIENCE_S)


class Looks:
    """A clock that counts how often the guard looks at it."""

    def __init__(self, times_s: Iterator[float]) -> None:
        self._times_s = times_s
        self.count = 0

    def __call__(self) -> float:
        self.count += 1
        return next(self._times_s)

    def wait_for(self, count: int) -> None:
        end = time.monotonic() + PATIENCE_S
        while self.count < count:
            assert time.monotonic() < end, "the guard does not look"
            time.sleep(0.002)


def guard(path: Path, progress_s: Callable[[], float], ending: Ending, **more: object) -> HangGuard:
    return HangGuard(progress_s, LIMIT_S, path, end=ending, **{"start_patience_s": 0.0} | more)  # type: ignore[arg-type]


def test_a_loop_that_gets_on_is_left_alone(tmp_path: Path) -> None:
    ending, clock, rounds = Ending(), Looks(itertools.count(0.0, 1.0)), itertools.count()
    with guard(tmp_path / "hung.txt", lambda: float(next(rounds)), ending, monotonic_s=clock):
        clock.wait_for(40)
    assert ending.status is None
    assert (tmp_path / "hung.txt").read_bytes() == b""


def test_a_loop_that_hangs_is_ended_with_the_stacks_of_all_threads(tmp_path: Path) -> None:
    ending, over = Ending(), threading.Event()

    def a_thread_that_waits() -> None:
        over.wait()

    other = threading.Thread(target=a_thread_that_waits)
    other.start()
    with capture_logs() as logs, guard(tmp_path / "hung.txt", lambda: 1.0, ending):
        assert ending.came()
    over.set()
    other.join()
    assert ending.status == HUNG_EXIT_STATUS
    stacks = (tmp_path / "hung.txt").read_text()
    [event] = [line for line in logs if line["event"] == "process.hung"]
    assert event["log_level"] == "critical"
    assert event["stacks"] == stacks
    assert event["silent_s"] >= LIMIT_S / 2
    for name in ("a_thread_that_waits", "test_a_loop_that_hangs_is_ended", "no progress for"):
        assert name in stacks


def test_a_log_that_hangs_too_does_not_hold_up_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ending, over = Ending(), threading.Event()
    monkeypatch.setattr("semd.service.hang_guard._REPORT_PATIENCE_S", 0.05)

    class Stuck:
        def critical(self, event: str, **_: object) -> None:
            over.wait(PATIENCE_S)

    monkeypatch.setattr("semd.service.hang_guard.structlog.get_logger", Stuck)
    with guard(tmp_path / "hung.txt", lambda: 1.0, ending):
        assert ending.came()
        assert not over.is_set()
    over.set()
    assert "no progress for" in (tmp_path / "hung.txt").read_text()


def test_the_first_round_may_take_longer(tmp_path: Path) -> None:
    ending, clock = Ending(), Looks(itertools.count(0.0, 1.0))
    marks = [0.0]
    with guard(tmp_path / "hung.txt", lambda: marks[0], ending, start_patience_s=3600.0, monotonic_s=clock):
        clock.wait_for(60)
        assert ending.status is None
        marks[0] = 1.0
        assert ending.came()
    assert ending.status == HUNG_EXIT_STATUS


def test_a_computer_that_slept_has_not_hung(tmp_path: Path) -> None:
    ending = Ending()
    # One night between two looks, then hardly any time passes.
    clock = Looks(itertools.chain([0.0, 0.0, 36_000.0], itertools.count(36_000.0, 1e-9)))
    with guard(tmp_path / "hung.txt", lambda: 1.0, ending, monotonic_s=clock):
        clock.wait_for(60)
    assert ending.status is None


def test_a_limit_of_none_guards_nothing(tmp_path: Path) -> None:
    threads = threading.active_count()
    with HangGuard(lambda: 1.0, 0.0, tmp_path / "hung.txt"):
        assert threading.active_count() == threads
    assert not (tmp_path / "hung.txt").exists()


def test_stacks_are_added_to_the_last_ones_until_there_are_too_many(tmp_path: Path) -> None:
    path = tmp_path / "hung.txt"
    path.write_text("the last time\n")
    for _ in range(2):
        ending = Ending()
        with guard(path, lambda: 1.0, ending):
            assert ending.came()
    assert path.read_text().startswith("the last time\n")
    assert path.read_text().count("no progress for") == 2
    path.write_bytes(b"x" * (2 << 20))
    with guard(path, lambda: 1.0, Ending(), start_patience_s=3600.0):
        pass
    assert path.read_bytes() == b""


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"gone.hung\.txt"),
        guard(tmp_path / "gone" / "hung.txt", time.time, Ending()),
    ):
        pass
