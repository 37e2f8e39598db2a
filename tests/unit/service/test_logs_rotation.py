"""Log files are rotated by size; a file that another process holds is written on and rotated later."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from semd.service.logs import PatientFileHandler, configure_logs


class Windows:
    """Renames as on Windows: what is held cannot be renamed, nor replaced."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.attempts = 0

    def __call__(self, source: str, target: str) -> None:
        self.attempts += 1
        if {Path(source).name, Path(target).name} & self.held:
            raise PermissionError(13, "The process cannot access the file", source)
        Path(source).replace(target)


class RotatedLog:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "daemon.log"
        self.windows = Windows()
        self.now_s = 0.0
        # 40 bytes are four lines of ten.
        self.handler = PatientFileHandler(self.path, max_bytes=41, rename=self.windows, monotonic_s=lambda: self.now_s)
        self.written = 0

    def write(self, lines: int) -> None:
        for _ in range(lines):
            self.handler.handle(logging.LogRecord("x", logging.INFO, "", 0, f"line {self.written:04d}", None, None))
            self.written += 1

    def numbers(self, name: str = "daemon.log") -> list[int]:
        return [int(line[5:]) for line in (self.path.parent / name).read_text().splitlines()]

    def all_numbers(self) -> list[int]:
        return sorted(number for path in self.path.parent.iterdir() for number in self.numbers(path.name))


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RotatedLog:
    monkeypatch.setattr(logging, "raiseExceptions", True)
    log = RotatedLog(tmp_path)
    yield log
    log.handler.close()


def names(log: RotatedLog) -> list[str]:
    return sorted(path.name for path in log.path.parent.iterdir())


def test_it_keeps_three_old_files_the_newest_first(log: RotatedLog) -> None:
    log.write(22)
    assert names(log) == ["daemon.log", "daemon.log.1", "daemon.log.2", "daemon.log.3"]
    assert log.numbers() == [20, 21]
    assert log.numbers("daemon.log.1") == [16, 17, 18, 19]
    assert log.numbers("daemon.log.3") == [8, 9, 10, 11]


def test_a_held_file_is_written_on_and_no_old_one_moves(log: RotatedLog) -> None:
    log.write(18)
    log.windows.held = {"daemon.log"}
    before = {number: log.numbers(f"daemon.log.{number}") for number in (1, 2, 3)}
    log.windows.attempts = 0
    log.write(10)
    assert log.numbers() == [16, 17, *range(18, 28)]
    assert {number: log.numbers(f"daemon.log.{number}") for number in (1, 2, 3)} == before
    assert log.windows.attempts == 1, "it is not tried at every line"


def test_it_is_tried_again_after_a_minute(log: RotatedLog) -> None:
    log.write(2)
    log.windows.held = {"daemon.log"}
    log.write(6)
    log.now_s = 59.9
    log.windows.held = set()
    log.write(1)
    assert names(log) == ["daemon.log"]
    log.now_s = 60.0
    log.write(1)
    assert log.numbers() == [9]
    assert log.numbers("daemon.log.1") == list(range(9))


@pytest.mark.parametrize("held", ["daemon.log.1", "daemon.log.2", "daemon.log.3"])
def test_a_held_old_file_costs_no_line(log: RotatedLog, held: str) -> None:
    log.write(16)  # three files of four and the present one
    before = log.all_numbers()
    log.windows.held = {held}
    log.write(6)
    kept = log.all_numbers()
    assert set(before) - set(kept) <= {0, 1, 2, 3}, "only what the limit of three files costs anyway"
    assert set(range(16, 22)) <= set(kept)
    log.windows.held = set()
    log.now_s = 60.0
    log.write(1)
    kept = log.all_numbers()
    assert set(range(12, 23)) <= set(kept)
    assert names(log) == ["daemon.log", "daemon.log.1", "daemon.log.2", "daemon.log.3"]
    assert log.numbers() == [22]


def test_the_processes_use_it(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "daemon.log"
    configure_logs(path)
    root = logging.getLogger()
    try:
        [handler] = [handler for handler in root.handlers if isinstance(handler, PatientFileHandler)]
        assert handler.baseFilename == str(path)
        assert handler.backupCount == 3
    finally:
        for handler in root.handlers[:]:
            root.removeHandler(handler)
            handler.close()
