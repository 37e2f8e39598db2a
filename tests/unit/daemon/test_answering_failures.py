"""Frames that the scoring or the control machine fails on: each ends once, and all go on."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from harness.answering import MODELS, NOW, DaemonWithoutProcess, DiedError, png
from structlog.testing import capture_logs

from semd.daemon import frame_files
from semd.errors import StorageError
from semd.inbox import consume
from semd.outbox.ledger import Ledger
from semd.protocol.action import Status


@pytest.fixture(params=["series", "single"])
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> DaemonWithoutProcess:
    return DaemonWithoutProcess(tmp_path, request.param)


@pytest.mark.parametrize("error", [ValueError("not finite"), MemoryError(), ZeroDivisionError(), AssertionError()])
def test_a_frame_that_the_scorer_fails_on_is_quarantined_held_and_gone_on_from(
    daemon: DaemonWithoutProcess, error: Exception
) -> None:
    daemon.scorer.fail_on(png(1), error)
    with daemon.process(), capture_logs() as logs:
        daemon.save("R", png(1))
        daemon.look()
        assert daemon.answerer.failed_in_a_row == 1
        daemon.save("R2" if daemon.layout == "series" else "R", png(2))
        daemon.look()
        assert daemon.answerer.failed_in_a_row == 0
        assert daemon.ledger.unfinished() == []
    assert [action.status for action in daemon.actions()] == [Status.HOLD, Status.ADJUST]
    assert daemon.reasons() == ["SEMD-F10"]
    assert daemon.quarantined() == ["R.png", "R.txt"]
    (line,) = [line for line in logs if line["event"] == "frame.failed"]
    assert line["error"] == "SEMD-F10"
    assert type(error).__name__ in line["reason"]
    assert line["exc_info"] is error


def test_an_actor_that_fails_is_no_different(daemon: DaemonWithoutProcess) -> None:
    daemon.actor_error = RuntimeError("wrong shape")
    with daemon.process():
        daemon.save("R", png(1))
        daemon.look()
    assert [action.status for action in daemon.actions()] == [Status.HOLD]
    assert daemon.reasons() == ["SEMD-F10"]


def test_a_restart_does_not_ask_again_about_a_frame_that_failed(
    daemon: DaemonWithoutProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.scorer.fail_on(png(1), ValueError())
    with daemon.process():
        daemon.save("R", png(1))
        with monkeypatch.context() as patch:
            patch.setattr(daemon.ledger, "decide", lambda *_, **__: (_ for _ in ()).throw(DiedError()))
            with pytest.raises(DiedError):
                daemon.look()
    asked = daemon.scorer.asked
    with daemon.process():
        daemon.look()
        assert daemon.ledger.unfinished() == []
    assert daemon.scorer.asked == asked
    assert [action.status for action in daemon.actions()] == [Status.HOLD]
    assert daemon.reasons() == ["SEMD-F10"]


@pytest.mark.parametrize("step", range(6))
def test_dying_on_the_way_to_quarantine_loses_nothing(
    daemon: DaemonWithoutProcess, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """NanoStation may have saved the next pair meanwhile: it must not be taken for the failed one."""
    daemon.scorer.fail_on(png(1), ValueError())
    left = step
    with daemon.process():
        daemon.save("R", png(1))

        def mortal(function: object) -> object:
            def call(*arguments: object, **named: object) -> object:
                nonlocal left
                left -= 1
                if left < 0:
                    raise DiedError
                return function(*arguments, **named)  # type: ignore[operator]

            return call

        with monkeypatch.context() as patch:
            patch.setattr(consume, "move_file", mortal(consume.move_file))
            patch.setattr(frame_files, "write_reason", mortal(frame_files.write_reason))
            patch.setattr(daemon.ledger, "fail", mortal(daemon.ledger.fail))
            with suppress(DiedError):
                daemon.look()
    if daemon.layout == "single" and not list(daemon.watch.iterdir()):
        daemon.save("R", png(2))
    with daemon.process():
        daemon.look()
        if len(daemon.actions()) == 1:
            daemon.save("R" if daemon.layout == "single" else "R2", png(2))
            daemon.look()
        assert daemon.ledger.unfinished() == []
    assert [action.status for action in daemon.actions()] == [Status.HOLD, Status.ADJUST]
    assert daemon.quarantined() == ["R.png", "R.txt"]
    assert next(daemon.quarantine.glob("*R.png")).read_bytes() == png(1)
    assert daemon.reasons() == ["SEMD-F10"]


def test_a_frame_that_ends_process_after_process_is_set_aside(daemon: DaemonWithoutProcess) -> None:
    daemon.scorer.fail_on(png(1), DiedError())
    daemon.save("R", png(1))
    with daemon.process(), pytest.raises(DiedError):
        daemon.look()
    for _ in range(2):
        with pytest.raises(DiedError), daemon.process():
            pass
    with daemon.process():
        assert daemon.ledger.unfinished() == []
        daemon.save("R2" if daemon.layout == "series" else "R", png(2))
        daemon.look()
    assert [action.status for action in daemon.actions()] == [Status.HOLD, Status.ADJUST]
    assert daemon.reasons() == ["SEMD-F10"]
    assert "3 processes ended" in next(daemon.quarantine.glob("*.reason.txt")).read_text()


def test_full_disks_are_no_deaths(daemon: DaemonWithoutProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same process takes its frame up again as often as it must."""
    with daemon.process():
        daemon.save("R", png(1))
        with monkeypatch.context() as patch:
            patch.setattr(daemon.ledger, "decide", lambda *_, **__: (_ for _ in ()).throw(StorageError("full")))
            with pytest.raises(StorageError):
                daemon.look()
            for _ in range(5):
                with pytest.raises(StorageError):
                    daemon.answerer.recover()
        daemon.answerer.recover()
    assert [action.status for action in daemon.actions()] == [Status.ADJUST]
    assert daemon.reasons() == []


def test_when_not_even_hold_can_be_said_the_frame_ends_in_quarantine_alone(daemon: DaemonWithoutProcess) -> None:
    class Broken:
        models_digest = MODELS

        def answer(self, *_: object) -> object:
            raise RuntimeError("nothing goes")

    with daemon.process():
        good = daemon.answerer._pipeline
        daemon.answerer._pipeline = Broken()  # type: ignore[assignment]
        daemon.save("R", png(1))
        with capture_logs() as logs:
            daemon.look()
        daemon.answerer._pipeline = good
        daemon.save("R2" if daemon.layout == "series" else "R", png(2))
        daemon.look()
        assert daemon.ledger.unfinished() == []
    assert [action.seq for action in daemon.actions()] == [2]
    assert daemon.reasons() == ["SEMD-F10"]
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["frame.failed", "frame.lost"]


def test_a_ledger_of_an_older_semd_learns_to_count_starts(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger(path, now=lambda: NOW).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE starts")
        connection.commit()
    with Ledger(path, now=lambda: NOW) as ledger:
        assert [ledger.count_start(7) for _ in range(3)] == [1, 2, 3]
        assert ledger.count_start(8) == 1
    with Ledger(path, now=lambda: NOW) as ledger:
        assert ledger.count_start(7) == 4
