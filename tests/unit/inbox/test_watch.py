"""The watch on a real directory: what is hinted, and whether it notices that it hears nothing any more."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from semd.errors import StorageError
from semd.inbox.consume import move_file, write_reason
from semd.inbox.watch import Hints, Watch


def collect(watch: Watch, enough: Callable[[Hints], bool]) -> Hints:
    found = Hints()
    deadline = time.monotonic() + 10
    while not enough(found):
        assert time.monotonic() < deadline, found
        watch.wait(0.1)
        hints = watch.drain()
        found.closed = (found.closed - (hints.touched - hints.closed)) | hints.closed
        found.touched |= hints.touched
    return found


@pytest.mark.parametrize("polling", [False, True])
def test_new_files_are_hinted(tmp_path: Path, polling: bool) -> None:
    watch = Watch(tmp_path, polling=polling, period_s=0.05)
    watch.start()
    try:
        (tmp_path / "a.txt").write_text("x")
        hints = collect(watch, lambda found: "a.txt" in found.touched)
        if not polling:
            collect(watch, lambda found: "a.txt" in found.closed or "a.txt" in hints.closed)
        assert watch.healthy()
    finally:
        watch.stop()
    assert not watch.healthy()


def test_a_rename_into_place_counts_as_closed_and_an_open_file_does_not(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    watch.start()
    try:
        (tmp_path / "~a.tmp").write_text("x")
        (tmp_path / "~a.tmp").rename(tmp_path / "a.txt")
        assert "a.txt" in collect(watch, lambda found: "a.txt" in found.closed).closed
        with (tmp_path / "b.txt").open("w") as file:
            file.write("half")
            file.flush()
            assert "b.txt" not in collect(watch, lambda found: "b.txt" in found.touched).closed
        assert "b.txt" in collect(watch, lambda found: "b.txt" in found.closed).closed
    finally:
        watch.stop()


def test_a_replaced_directory_is_noticed_and_watched_again(tmp_path: Path) -> None:
    directory = tmp_path / "watch"
    directory.mkdir()
    watch = Watch(directory)
    watch.start()
    try:
        directory.rename(tmp_path / "old")
        assert not watch.healthy()
        with pytest.raises(StorageError):
            watch.start()
        directory.mkdir()
        watch.start()
        assert watch.healthy()
        (directory / "a.txt").write_text("x")
        collect(watch, lambda found: "a.txt" in found.touched)
    finally:
        watch.stop()


def test_moves_can_be_repeated_and_cross_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "a.jpg", tmp_path / "archive" / "1~a.jpg"
    source.write_bytes(b"1")
    real = Path.replace

    def replace(self: Path, to: Path) -> Path:
        if self == source:
            raise OSError(errno.EXDEV, "cross-device")
        return real(self, to)

    monkeypatch.setattr(Path, "replace", replace)
    move_file(source, target)
    assert target.read_bytes() == b"1"
    assert not source.exists()
    monkeypatch.undo()
    move_file(source, target)


def test_a_reason_says_what_where_and_what_to_do(tmp_path: Path) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    write_reason(tmp_path / "x~a.jpg", "a\n", "SEMD-F04", "the JPEG has no end marker", moment)
    text = (tmp_path / "x~a.jpg.reason.txt").read_text()
    assert text.startswith("SEMD-F04: the JPEG has no end marker\nFrame: 'a\\n'\nTime: 2026-01-02T03:04:05.000+00:00\n")
    assert "What to do" in text


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE])
def test_the_limit_of_watches_is_not_called_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def schedule(*_: object, **__: object) -> None:
        raise OSError(number, "inotify")

    monkeypatch.setattr("watchdog.observers.api.BaseObserver.schedule", schedule)
    with pytest.raises(StorageError, match="max_user_watches"):
        Watch(tmp_path).start()
