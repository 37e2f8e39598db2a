"""Files that another program holds: Windows then bars renaming, which is played here by a rename that refuses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.daemon_process import make_daemon
from harness.outbox import drop_file, make_action

from semd.errors import StorageError
from semd.inbox.consume import move_file
from semd.middle_client.action_folder import ActionFolder
from semd.service.storage import write_atomically

ATTEMPTS = 20


class Holder:
    """Somebody who has files open: the next so many renames of names that match are refused."""

    def __init__(self, rename: Callable[[Path, Path], Path]) -> None:
        self._rename = rename
        self.refusals = 0
        self.match = ""
        self.tried = 0
        self.let_go = threading.Event()

    def replace(self, source: Path, target: Path) -> Path:
        if self.match in str(target) and self.refusals > 0:
            self.tried += 1
            self.refusals -= 1
            if self.refusals == 0:
                self.let_go.set()
            raise PermissionError(13, "The process cannot access the file because it is being used", str(source))
        return self._rename(source, target)


@pytest.fixture
def holder(monkeypatch: pytest.MonkeyPatch) -> Holder:
    held = Holder(Path.replace)

    def replace(source: Path, target: Path) -> Path:
        return held.replace(source, target)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr("semd.service.storage._RENAME_ATTEMPTS", ATTEMPTS)
    monkeypatch.setattr("semd.service.storage._RENAME_PAUSE_S", 0.001)
    return held


def test_a_file_held_for_a_moment_is_written_all_the_same(tmp_path: Path, holder: Holder) -> None:
    path = tmp_path / "health.json"
    path.write_bytes(b"old")
    holder.refusals = ATTEMPTS - 1
    write_atomically(path, b"new")
    assert holder.tried == ATTEMPTS - 1
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_held_on_and_on_is_an_error_that_says_so_and_stays_whole(tmp_path: Path, holder: Holder) -> None:
    path = tmp_path / "health.json"
    path.write_bytes(b"old")
    holder.refusals = 1000
    with pytest.raises(StorageError, match="permission denied"):
        write_atomically(path, b"new")
    assert holder.tried == ATTEMPTS
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_where_nobody_can_hold_files_a_refusal_is_final(tmp_path: Path, holder: Holder, monkeypatch) -> None:
    monkeypatch.setattr("semd.service.storage._RENAME_ATTEMPTS", 1)
    holder.refusals = 1
    with pytest.raises(StorageError):
        write_atomically(tmp_path / "file", b"")
    assert holder.tried == 1


def test_frames_and_actions_are_moved_once_they_are_let_go(tmp_path: Path, holder: Holder) -> None:
    frame = tmp_path / "ResponseImage.jpg"
    frame.write_bytes(b"pixels")
    holder.refusals = 5
    assert move_file(frame, tmp_path / "archive" / "1~ResponseImage.jpg")
    assert (tmp_path / "archive" / "1~ResponseImage.jpg").read_bytes() == b"pixels"
    action = make_action(1)
    drop_file(tmp_path / "actions", action)
    holder.refusals = 5
    ActionFolder(tmp_path / "actions").move(action.file_name, "sent")
    assert (tmp_path / "actions" / "sent" / action.file_name).is_file()
    assert holder.tried == 10


def test_a_daemon_whose_action_file_is_held_goes_on_and_answers_once(tmp_path: Path, holder: Holder) -> None:
    daemon = make_daemon(tmp_path)
    holder.match = "action-"
    holder.refusals = 2 * ATTEMPTS + 3  # two attempts of the daemon fail, the third is let through
    with daemon.running():
        daemon.write_good("first")
        assert daemon.answered("first").seq == 1
        daemon.write_good("second", seed=2)
        assert daemon.answered("second").seq == 2
        daemon.until(lambda: bool(daemon.events("storage.recovered")))
    assert holder.let_go.is_set()
    assert [action.frame for action in daemon.actions()] == ["first", "second"]
    [failed] = daemon.events("storage.failed")
    assert "permission denied" in str(failed["reason"])
