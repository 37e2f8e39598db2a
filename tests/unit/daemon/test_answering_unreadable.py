"""Files that can be neither read nor moved: they are reported and stop nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from harness.answering import DaemonWithoutProcess, DiedError, png
from structlog.testing import capture_logs

from semd.outbox.rows import RowState
from semd.protocol.action import Status


@pytest.fixture(params=["series", "single"])
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> DaemonWithoutProcess:
    return DaemonWithoutProcess(tmp_path, request.param)


def forbid(monkeypatch: pytest.MonkeyPatch, *, move_too: bool) -> None:
    real_open, real_replace = os.open, Path.replace

    def held(path: Path, flags: int) -> int:
        if path.name.endswith("R.png"):
            raise PermissionError(13, "Permission denied")
        return real_open(path, flags)

    def replace(self: Path, target: Path) -> Path:
        if move_too and self.name == "R.png":
            raise PermissionError(13, "Permission denied")
        return real_replace(self, target)

    monkeypatch.setattr("semd.inbox.load.os.open", held)
    monkeypatch.setattr(Path, "replace", replace)


@pytest.mark.parametrize("move_too", [False, True])
def test_an_unreadable_picture_is_held_and_does_not_stop_the_others(
    daemon: DaemonWithoutProcess, monkeypatch: pytest.MonkeyPatch, move_too: bool
) -> None:
    forbid(monkeypatch, move_too=move_too)
    with daemon.process(), capture_logs() as logs:
        daemon.save("R", png(1))
        daemon.look()
        daemon.save("other", png(2))
        daemon.look()
        assert daemon.ledger.unfinished() == []
    assert [(action.frame, action.status) for action in daemon.actions()] == [
        ("R", Status.HOLD),
        ("other", Status.ADJUST),
    ]
    assert daemon.reasons() == ["SEMD-F08"]
    assert (daemon.watch / "R.png").exists() == move_too
    assert ("frame.unmovable" in [line["event"] for line in logs]) == move_too


def test_an_unreadable_picture_does_not_stop_a_recovery(
    daemon: DaemonWithoutProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(monkeypatch, move_too=False)
    with daemon.process():
        daemon.save("R", png(1))
        with monkeypatch.context() as patch:
            patch.setattr(daemon.ledger, "decide", lambda *_, **__: (_ for _ in ()).throw(DiedError()))
            with pytest.raises(DiedError):
                daemon.look()
    with daemon.process():
        assert daemon.ledger.unfinished() == []
    assert [action.status for action in daemon.actions()] == [Status.HOLD]


def test_two_unreadable_frames_of_one_name_are_both_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = DaemonWithoutProcess(tmp_path, "single")
    real = os.open

    def held(path: Path, flags: int) -> int:
        if path.name.endswith("R.txt"):
            raise PermissionError(13, "Permission denied")
        return real(path, flags)

    monkeypatch.setattr("semd.inbox.load.os.open", held)
    with daemon.process():
        for seed in (1, 2):
            daemon.save("R", png(seed))
            daemon.look()
        assert daemon.ledger.counts()[RowState.QUARANTINED] == 2
    assert list(daemon.watch.iterdir()) == []
    kept = {path.read_bytes() for path in daemon.quarantine.glob("*R.png")}
    assert kept == {png(1), png(2)}
    assert daemon.reasons() == ["SEMD-F08"] * 2
