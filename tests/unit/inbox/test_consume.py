"""Moving files: repeated, across devices, onto what is there already."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from semd.errors import StorageError
from semd.inbox import consume
from semd.inbox.consume import move_file, put_aside, write_reason


def test_a_move_may_be_repeated(tmp_path: Path) -> None:
    source, target = tmp_path / "a.jpg", tmp_path / "archive" / "1~a.jpg"
    source.write_bytes(b"picture")
    for _ in range(2):
        move_file(source, target)
        assert (source.exists(), target.read_bytes()) == (False, b"picture")


def test_a_newer_frame_under_the_old_name_is_left_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "a.jpg", tmp_path / "1~a.jpg"
    target.write_bytes(b"archived")
    source.write_bytes(b"newer")
    move_file(source, target)
    assert (source.read_bytes(), target.read_bytes()) == (b"newer", b"archived")


@pytest.mark.parametrize("later_ns", [0, 1_000_000])
def test_a_copy_left_by_a_crash_goes_and_a_newer_file_of_the_same_bytes_stays(tmp_path: Path, later_ns: int) -> None:
    source, target = tmp_path / "a.txt", tmp_path / "1~a.txt"
    for path, moment_ns in ((target, 10**18), (source, 10**18 + later_ns)):
        path.write_bytes(b"MAG=2000\n")  # parameters often stay the same from frame to frame
        os.utime(path, ns=(moment_ns, moment_ns))
    move_file(source, target)
    assert source.exists() == bool(later_ns)
    assert target.exists()


def test_what_is_to_be_replaced_gives_way(tmp_path: Path) -> None:
    source, target = tmp_path / "a.txt", tmp_path / "1~a.txt"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    assert move_file(source, target, replace=True)
    assert (source.exists(), target.read_bytes()) == (False, b"new")


def test_to_another_device_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "a.jpg", tmp_path / "archive" / "1~a.jpg"
    source.write_bytes(b"picture")
    rename = consume.rename

    def refuses_across(from_path: Path, to_path: Path) -> None:
        if from_path.parent != to_path.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(from_path, to_path)

    monkeypatch.setattr(consume, "rename", refuses_across)
    move_file(source, target)
    assert (source.exists(), target.read_bytes()) == (False, b"picture")
    assert [path.name for path in target.parent.iterdir()] == ["1~a.jpg"]


def test_what_is_nowhere_is_said_but_a_directory_that_is_gone_may_come_back(tmp_path: Path) -> None:
    assert not move_file(tmp_path / "a.jpg", tmp_path / "1~a.jpg")
    with pytest.raises(StorageError, match="the directory is gone"):
        move_file(tmp_path / "watch" / "a.jpg", tmp_path / "1~a.jpg")


def test_a_pair_is_moved_before_anything_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "archive"
    moves = [(tmp_path / name, archive / f"1~{name}") for name in ("a.jpg", "gone.jpg", "a.txt")]
    for index in (0, 2):
        moves[index][0].write_bytes(b"x")
    synced: list[tuple[Path, bool]] = []
    monkeypatch.setattr(consume, "sync_directory", lambda path: synced.append((path, moves[2][0].exists())))
    assert put_aside(moves) == [moves[1][0]]
    assert synced == [(archive, False)]
    assert sorted(path.name for path in archive.iterdir()) == ["1~a.jpg", "1~a.txt"]


def test_a_copy_is_durable_before_its_source_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "a.jpg", tmp_path / "archive" / "1~a.jpg"
    source.write_bytes(b"picture")
    rename = consume.rename

    def refuses_across(from_path: Path, to_path: Path) -> None:
        if from_path.parent != to_path.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(from_path, to_path)

    def power_cut(path: Path) -> None:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(consume, "rename", refuses_across)
    monkeypatch.setattr(consume, "sync_directory", power_cut)
    with pytest.raises(StorageError):
        move_file(source, target)
    assert source.exists()


def test_the_reason_says_what_where_when_and_what_to_do(tmp_path: Path) -> None:
    write_reason(
        tmp_path / "x~a.jpg", "a\udcff", "SEMD-F02", "WD is missing", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    )
    text = (tmp_path / "x~a.jpg.reason.txt").read_text("utf-8")
    assert text.startswith("SEMD-F02: WD is missing\n")
    assert "2026-01-02T03:04:05.000+00:00" in text
    assert "What to do:" in text
