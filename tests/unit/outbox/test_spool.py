"""Action files: whole or not there, written once, found wherever the Middle Client has put them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from harness.outbox import drop_file, make_action

from semd.errors import StorageError
from semd.middle_client.action_folder import Outcome
from semd.outbox.spool import SUBFOLDERS, Spool
from semd.protocol.action import decode_action


def test_the_folders_are_those_of_the_middle_client() -> None:
    assert set(SUBFOLDERS) == {str(outcome) for outcome in Outcome}


def test_a_published_action_is_the_only_file(tmp_path: Path) -> None:
    action = make_action(7)
    path = Spool(tmp_path / "actions").publish(action)
    assert path == tmp_path / "actions" / f"action-00000007-{action.id}.txt"
    assert decode_action(path.read_bytes()) == action
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("folder", ["", *SUBFOLDERS])
def test_what_exists_is_not_written_again(tmp_path: Path, folder: str) -> None:
    old = drop_file(tmp_path / folder, make_action(3))
    before = old.read_bytes()
    spool = Spool(tmp_path)
    assert spool.publish(make_action(3, lifetime_s=5.0)) == old
    assert old.read_bytes() == before
    assert len(list(tmp_path.rglob("action-*.txt"))) == 1


def test_the_highest_seq_counts_every_folder(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert spool.highest_seq() == 0
    drop_file(tmp_path, make_action(3))
    drop_file(tmp_path / "expired", make_action(12))
    drop_file(tmp_path / "an operator's own", make_action(123_456_789))
    (tmp_path / "action-notes.txt").touch()
    assert spool.highest_seq() == 123_456_789


def test_leftovers_of_a_crash_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / f".{make_action(1).file_name}.tmp"
    leftover.write_bytes(b"SEMD-ACTION=1\nID=")
    Spool(tmp_path)
    assert not leftover.exists()


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EIO, "[Ii]nput/output error")],
)
def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    spool = Spool(tmp_path)

    def fail(_handle: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr("semd.service.storage.os.fsync", fail)
        with pytest.raises(StorageError, match=words):
            spool.publish(make_action(1))
    assert spool.locate(make_action(1).file_name) is None
    assert list(tmp_path.iterdir()) == []
    assert spool.publish(make_action(1)).exists()


def test_a_directory_that_vanished(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "actions")
    (tmp_path / "actions").rmdir()
    with pytest.raises(StorageError, match="directory is gone"):
        spool.publish(make_action(1))
