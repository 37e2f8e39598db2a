"""Writing and moving in one step."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from semd.errors import StorageError
from semd.files import move, retry_sharing, write_atomic


def test_a_failed_write_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("semd.files.os.fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_move_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "to").mkdir()
    for _ in range(2):
        move(tmp_path / "a", tmp_path / "to" / "a")
    assert (tmp_path / "to" / "a").read_bytes() == b"1"
    with pytest.raises(StorageError, match="vanished"):
        move(tmp_path / "b", tmp_path / "to" / "b")


def test_a_move_to_another_device_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"1")
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if self.name == "a":
            raise OSError(errno.EXDEV, "cross-device")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    move(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"1"
    assert not (tmp_path / "a").exists()


def sharing_violation(code: int | None) -> PermissionError:
    error = PermissionError(errno.EACCES, "in use")
    error.winerror = code  # type: ignore[attr-defined]
    return error


def test_sharing_violations_are_retried() -> None:
    failures = [sharing_violation(32), sharing_violation(5)]
    pauses: list[float] = []

    def act() -> None:
        if failures:
            raise failures.pop()

    retry_sharing(act, pauses.append)
    assert len(pauses) == 2


@pytest.mark.parametrize("code", [None, 32])
def test_retries_are_bounded_and_only_for_sharing(code: int | None) -> None:
    pauses: list[float] = []

    def act() -> None:
        raise sharing_violation(code)

    with pytest.raises(PermissionError):
        retry_sharing(act, pauses.append)
    assert len(pauses) == (0 if code is None else 19)
