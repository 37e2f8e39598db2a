"""Frames that the machines fail on, late halves, pairs that come again byte for byte: each ends once, and all go on."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from structlog.testing import capture_logs

from semd.daemon import answering
from semd.daemon.answering import Answerer, Places
from semd.daemon.process import reload_frame
from semd.domain.action import Action, Status, decode_action
from semd.domain.axes import AXES
from semd.domain.identity import action_id, digest
from semd.domain.judgement import Judgement
from semd.domain.pairing import Dialect
from semd.domain.rules import DEFAULT_LIMITS, RunRules
from semd.errors import StorageError
from semd.inbox import consume
from semd.inbox.frame import LoadedFrame
from semd.inbox.image import FrameSize
from semd.inbox.inbox import Inbox, Patience
from semd.inbox.load import FrameLoader
from semd.inbox.watch import Hints
from semd.outbox.ledger import Ledger
from semd.outbox.rows import RowState
from semd.outbox.spool import Spool
from semd.pipeline import Pipeline

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LOADER = FrameLoader(Dialect.COXEM, FrameSize(160, 120), AXES, DEFAULT_LIMITS)
TEXT = b"MAG=2000\r\nWD=9500\r\nBRIGHTNESS=40\r\nCONTRAST=50\r\n"
MODELS = "0" * 64


def png(seed: int) -> bytes:
    return cv2.imencode(".png", np.random.default_rng(seed).integers(20, 220, (120, 160), dtype=np.uint8))[1].tobytes()


class DiedError(BaseException):
    """The process is gone."""


class Scorer:
    """Fails on frames whose first pixel has been named."""

    def __init__(self) -> None:
        self.fails_on: dict[int, BaseException] = {}
        self.asked = 0

    def fail_on(self, data: bytes, error: BaseException) -> None:
        self.fails_on[int(cv2.imdecode(np.frombuffer(data, np.uint8), 0)[0, 0])] = error

    def judge(self, image: np.ndarray, magnification: float) -> Judgement:
        self.asked += 1
        error = self.fails_on.get(int(image[0, 0]))
        if error is not None:
            raise error
        return Judgement(5.0)


class Bench:
    def __init__(self, root: Path, layout: str) -> None:
        self.root, self.layout = root, layout
        self.watch = root / "watch"
        self.watch.mkdir()
        self.scorer = Scorer()
        self.actor_error: Exception | None = None
        self.now_s = 0.0

    def act(self, state: np.ndarray) -> np.ndarray:
        if self.actor_error is not None:
            raise self.actor_error
        return np.zeros(3, np.float32)

    @contextmanager
    def process(self) -> Iterator[None]:
        spool = Spool(self.root / "actions")
        archive = self.root / "archive" if self.layout == "single" else None
        with Ledger(self.root / "ledger.sqlite", now=lambda: NOW, floor_seq=spool.highest_seq()) as self.ledger:
            self.answerer = Answerer(
                Pipeline(self.scorer, self.act, RunRules(), MODELS),
                self.ledger,
                spool,
                Places(archive, self.root / "quarantine"),
                lifetime=timedelta(seconds=60),
                now=lambda: NOW,
                reload=lambda row: reload_frame(LOADER, self.watch, row),
            )
            self.inbox = Inbox(self.watch, LOADER, Patience(), self.ledger.knows)
            self.answerer.recover()
            yield

    def save(self, stem: str, image: bytes | None, text: bytes | None = TEXT) -> None:
        if image is not None:
            (self.watch / f"{stem}.png").write_bytes(image)
        if text is not None:
            (self.watch / f"{stem}.txt").write_bytes(text)

    def look(self) -> None:
        """Long enough for everything that lies there."""
        for wait_s in (0.0, 1.0, 11.0, 61.0):
            self.now_s += wait_s
            for item in self.inbox.poll(Hints(), self.now_s, doubt=True):
                if isinstance(item.content, LoadedFrame):
                    self.answerer.answer(item.content, item.fingerprint)
                else:
                    self.answerer.reject(item.content, item.fingerprint)
                self.inbox.settle(item)

    def actions(self) -> list[Action]:
        return [decode_action(path.read_bytes()) for path in sorted((self.root / "actions").glob("action-*.txt"))]

    def reasons(self) -> list[str]:
        return sorted(path.read_text().split(":")[0] for path in self.quarantine.glob("*.reason.txt"))

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    def quarantined(self) -> list[str]:
        names = (path.name for path in self.quarantine.glob("*") if not path.name.endswith(".reason.txt"))
        return sorted(name.split("~")[1] for name in names)


@pytest.fixture(params=["series", "single"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(tmp_path, request.param)


@pytest.mark.parametrize("error", [ValueError("not finite"), MemoryError(), ZeroDivisionError(), AssertionError()])
def test_a_frame_that_the_scorer_fails_on_is_quarantined_held_and_gone_on_from(bench: Bench, error: Exception) -> None:
    bench.scorer.fail_on(png(1), error)
    with bench.process(), capture_logs() as logs:
        bench.save("R", png(1))
        bench.look()
        assert bench.answerer.failed_in_a_row == 1
        bench.save("R2" if bench.layout == "series" else "R", png(2))
        bench.look()
        assert bench.answerer.failed_in_a_row == 0
        assert bench.ledger.unfinished() == []
    assert [action.status for action in bench.actions()] == [Status.HOLD, Status.ADJUST]
    assert bench.reasons() == ["SEMD-F10"]
    assert bench.quarantined() == ["R.png", "R.txt"]
    (line,) = [line for line in logs if line["event"] == "frame.failed"]
    assert line["error"] == "SEMD-F10"
    assert type(error).__name__ in line["reason"]
    assert line["exc_info"] is error


def test_an_actor_that_fails_is_no_different(bench: Bench) -> None:
    bench.actor_error = RuntimeError("wrong shape")
    with bench.process():
        bench.save("R", png(1))
        bench.look()
    assert [action.status for action in bench.actions()] == [Status.HOLD]
    assert bench.reasons() == ["SEMD-F10"]


def test_a_restart_does_not_ask_again_about_a_frame_that_failed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.scorer.fail_on(png(1), ValueError())
    with bench.process():
        bench.save("R", png(1))
        with monkeypatch.context() as patch:
            patch.setattr(bench.ledger, "decide", lambda *_, **__: (_ for _ in ()).throw(DiedError()))
            with pytest.raises(DiedError):
                bench.look()
    asked = bench.scorer.asked
    with bench.process():
        bench.look()
        assert bench.ledger.unfinished() == []
    assert bench.scorer.asked == asked
    assert [action.status for action in bench.actions()] == [Status.HOLD]
    assert bench.reasons() == ["SEMD-F10"]


@pytest.mark.parametrize("step", range(6))
def test_dying_on_the_way_to_quarantine_loses_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """NanoStation may have saved the next pair meanwhile: it must not be taken for the failed one."""
    bench.scorer.fail_on(png(1), ValueError())
    left = step
    with bench.process():
        bench.save("R", png(1))

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
            patch.setattr(answering, "write_reason", mortal(answering.write_reason))
            patch.setattr(bench.ledger, "fail", mortal(bench.ledger.fail))
            with suppress(DiedError):
                bench.look()
    if bench.layout == "single" and not list(bench.watch.iterdir()):
        bench.save("R", png(2))
    with bench.process():
        bench.look()
        if len(bench.actions()) == 1:
            bench.save("R" if bench.layout == "single" else "R2", png(2))
            bench.look()
        assert bench.ledger.unfinished() == []
    assert [action.status for action in bench.actions()] == [Status.HOLD, Status.ADJUST]
    assert bench.quarantined() == ["R.png", "R.txt"]
    assert next(bench.quarantine.glob("*R.png")).read_bytes() == png(1)
    assert bench.reasons() == ["SEMD-F10"]


def test_a_frame_that_ends_process_after_process_is_set_aside(bench: Bench) -> None:
    bench.scorer.fail_on(png(1), DiedError())
    bench.save("R", png(1))
    with bench.process(), pytest.raises(DiedError):
        bench.look()
    for _ in range(2):
        with pytest.raises(DiedError), bench.process():
            pass
    with bench.process():
        assert bench.ledger.unfinished() == []
        bench.save("R2" if bench.layout == "series" else "R", png(2))
        bench.look()
    assert [action.status for action in bench.actions()] == [Status.HOLD, Status.ADJUST]
    assert bench.reasons() == ["SEMD-F10"]
    assert "3 processes ended" in next(bench.quarantine.glob("*.reason.txt")).read_text()


def test_full_disks_are_no_deaths(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same process takes its frame up again as often as it must."""
    with bench.process():
        bench.save("R", png(1))
        with monkeypatch.context() as patch:
            patch.setattr(bench.ledger, "decide", lambda *_, **__: (_ for _ in ()).throw(StorageError("full")))
            with pytest.raises(StorageError):
                bench.look()
            for _ in range(5):
                with pytest.raises(StorageError):
                    bench.answerer.recover()
        bench.answerer.recover()
    assert [action.status for action in bench.actions()] == [Status.ADJUST]
    assert bench.reasons() == []


def test_when_not_even_hold_can_be_said_the_frame_ends_in_quarantine_alone(bench: Bench) -> None:
    class Broken:
        models_digest = MODELS

        def answer(self, *_: object) -> object:
            raise RuntimeError("nothing goes")

    with bench.process():
        good = bench.answerer._pipeline
        bench.answerer._pipeline = Broken()  # type: ignore[assignment]
        bench.save("R", png(1))
        with capture_logs() as logs:
            bench.look()
        bench.answerer._pipeline = good
        bench.save("R2" if bench.layout == "series" else "R", png(2))
        bench.look()
        assert bench.ledger.unfinished() == []
    assert [action.seq for action in bench.actions()] == [2]
    assert bench.reasons() == ["SEMD-F10"]
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["frame.failed", "frame.lost"]


# Late halves


@pytest.mark.parametrize("first", ["image", "text"])
def test_a_late_half_joins_the_record_of_the_first(bench: Bench, first: str) -> None:
    with bench.process(), capture_logs() as logs:
        bench.save("R", *((png(1), None) if first == "image" else (None, TEXT)))
        bench.look()
        bench.save("R", *((None, TEXT) if first == "image" else (png(1), None)))
        bench.look()
    assert list(bench.watch.iterdir()) == []
    assert bench.reasons() == ["SEMD-F07"]
    assert bench.quarantined() == ["R.png", "R.txt"]
    assert [line["event"] for line in logs if line["event"] in ("frame.quarantined", "frame.late-half")] == [
        "frame.quarantined",
        "frame.late-half",
    ]
    assert bench.actions() == []


@pytest.mark.parametrize("why", ["bad text", "damaged image"])
def test_a_half_after_a_whole_pair_in_quarantine(bench: Bench, why: str) -> None:
    """In `series` it is that frame's; in `single` it may be the next one's, which must have its own record."""
    with bench.process():
        bench.save("R", png(1)[:-30] if why == "damaged image" else png(1), TEXT[4:] if why == "bad text" else TEXT)
        bench.look()
        bench.save("R", None, TEXT + b"HV=15000\r\n")
        bench.look()
    code = "SEMD-F02" if why == "bad text" else "SEMD-F04"
    assert bench.reasons() == ([code] if bench.layout == "series" else [code, "SEMD-F07"])
    assert list(bench.watch.iterdir()) == []


def test_only_one_half_is_ever_the_late_one_where_all_frames_share_a_stem(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "single")
    with bench.process():
        for image, text in ((png(1), None), (None, TEXT), (None, TEXT + b"HV=1000\r\n"), (png(2), None)):
            bench.save("R", image, text)
            bench.look()
    assert bench.reasons() == ["SEMD-F07"] * 2  # two frames, each in two pieces
    assert bench.quarantined() == ["R.png"] * 2 + ["R.txt"] * 2


# Pairs that come again


def test_a_pair_saved_again_byte_for_byte_is_a_frame_of_its_own_in_single(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "single")
    ids = []
    for count in range(1, 4):
        with bench.process(), capture_logs() as logs:
            bench.save("R", png(1))
            bench.look()
        assert list(bench.watch.iterdir()) == []
        assert [action.seq for action in bench.actions()] == list(range(1, count + 1))
        ids = [action.id for action in bench.actions()]
        assert ("frame.identical" in [line["event"] for line in logs]) == (count > 1)
    first = action_id("R", digest(png(1)), digest(TEXT), MODELS)
    again = [action_id(f"0000000{seq}~R", digest(png(1)), digest(TEXT), MODELS) for seq in (2, 3)]
    assert ids == [first, *again]
    assert {action.frame for action in bench.actions()} == {"R"}
    assert len(list((tmp_path / "archive").glob("*.png"))) == 3


def test_a_damaged_pair_saved_again_is_held_again_in_single(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "single")
    with bench.process():
        for _ in range(2):
            bench.save("R", png(1)[:-30])
            bench.look()
    assert [action.status for action in bench.actions()] == [Status.HOLD] * 2
    assert bench.reasons() == ["SEMD-F04"] * 2


def test_the_same_pair_saved_again_in_series_is_the_same_frame(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "series")
    with bench.process():
        for _ in range(3):
            bench.save("R", png(1))
            bench.look()
    assert len(bench.actions()) == 1


def test_dying_over_a_repeated_pair_answers_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, "single")
    with bench.process():
        bench.save("R", png(1))
        bench.look()
        bench.save("R", png(1))
        with monkeypatch.context() as patch:
            patch.setattr(bench.ledger, "decide", lambda *_, **__: (_ for _ in ()).throw(DiedError()))
            with pytest.raises(DiedError):
                bench.look()
    for _ in range(2):
        with bench.process():
            bench.look()
    assert [action.seq for action in bench.actions()] == [1, 2]


# Files that can be neither read nor moved


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
    bench: Bench, monkeypatch: pytest.MonkeyPatch, move_too: bool
) -> None:
    forbid(monkeypatch, move_too=move_too)
    with bench.process(), capture_logs() as logs:
        bench.save("R", png(1))
        bench.look()
        bench.save("other", png(2))
        bench.look()
        assert bench.ledger.unfinished() == []
    assert [(action.frame, action.status) for action in bench.actions()] == [
        ("R", Status.HOLD),
        ("other", Status.ADJUST),
    ]
    assert bench.reasons() == ["SEMD-F08"]
    assert (bench.watch / "R.png").exists() == move_too
    assert ("frame.unmovable" in [line["event"] for line in logs]) == move_too


def test_an_unreadable_picture_does_not_stop_a_recovery(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch, move_too=False)
    with bench.process():
        bench.save("R", png(1))
        with monkeypatch.context() as patch:
            patch.setattr(bench.ledger, "decide", lambda *_, **__: (_ for _ in ()).throw(DiedError()))
            with pytest.raises(DiedError):
                bench.look()
    with bench.process():
        assert bench.ledger.unfinished() == []
    assert [action.status for action in bench.actions()] == [Status.HOLD]


def test_two_unreadable_frames_of_one_name_are_both_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, "single")
    real = os.open

    def held(path: Path, flags: int) -> int:
        if path.name.endswith("R.txt"):
            raise PermissionError(13, "Permission denied")
        return real(path, flags)

    monkeypatch.setattr("semd.inbox.load.os.open", held)
    with bench.process():
        for seed in (1, 2):
            bench.save("R", png(seed))
            bench.look()
        assert bench.ledger.counts()[RowState.QUARANTINED] == 2
    assert list(bench.watch.iterdir()) == []
    kept = {path.read_bytes() for path in bench.quarantine.glob("*R.png")}
    assert kept == {png(1), png(2)}
    assert bench.reasons() == ["SEMD-F08"] * 2


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
