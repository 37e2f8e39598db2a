"""Files are whole or not there, and one process at a time holds a directory."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from semd.errors import StorageError
from semd.service.storage import InstanceLock, write_atomically


@pytest.mark.parametrize("step", ["semd.service.storage.os.fsync", "semd.service.storage.rename"])
def test_a_failed_write_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(step, full)
    with pytest.raises(StorageError, match="disk is full") as caught:
        write_atomically(path, b"new")
    assert str(path) in caught.value.message
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_who_holds_the_old_file_keeps_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old content")
    with path.open("rb") as reader:
        write_atomically(path, b"new", durable=False)
        assert reader.read() == b"old content"
    assert path.read_bytes() == b"new"


def test_a_directory_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="directory is gone"):
        write_atomically(tmp_path / "gone" / "file", b"")


def test_the_lock_keeps_others_out_until_its_holder_ends(tmp_path: Path) -> None:
    path = tmp_path / "state" / "lock"
    program = (
        "import sys, time; from pathlib import Path; from semd.service.storage import InstanceLock\n"
        f"InstanceLock(Path({str(path)!r})).__enter__(); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StorageError, match="another process"), InstanceLock(path):
            pass
        holder.kill()
        holder.wait()
    with InstanceLock(path), pytest.raises(StorageError), InstanceLock(path):
        pass
    with InstanceLock(path):
        pass
