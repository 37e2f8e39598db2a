"""Directories and disks that fail under the daemon: it says so once, loses nothing and goes on when they are back."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.daemon_process import TEXT, Bench, jpeg, make_bench

from semd.daemon.daemon_process import reload_frame
from semd.errors import PairIncompleteError, StorageError
from semd.inbox.load import FrameLoader
from semd.inbox.watch import Watch
from semd.outbox.ledger import Ledger
from semd.outbox.rows import LedgerRow, Move, RowState
from semd.protocol.action import Status


def test_without_events_the_scan_finds_every_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: Watch) -> None:
        raise StorageError("the system's limit of watches is reached")

    monkeypatch.setattr(Watch, "start", start)
    bench = make_bench(tmp_path)
    with bench.running():
        for number in range(3):
            bench.write_good(f"f{number}", seed=number)
            bench.answered(f"f{number}")
    (event,) = bench.events("watch.failed")
    assert (event["error"], event["level"]) == ("SEMD-S01", "warning")
    assert not bench.events("storage.failed")


def test_a_directory_that_is_replaced_by_another_of_its_name(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    with bench.running():
        bench.write_good("first")
        bench.answered("first")
        fresh = tmp_path / "fresh"
        fresh.mkdir()
        bench.watch.rename(tmp_path / "old")
        fresh.rename(bench.watch)
        bench.write_good("second", seed=2)
        bench.answered("second")
    assert [action.seq for action in bench.actions()] == [1, 2]


@pytest.mark.parametrize("step", ["claim", "decide", "published"])
def test_a_ledger_that_cannot_be_written_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    bench = make_bench(tmp_path)
    real = getattr(Ledger, step)
    failing = True

    def fail(self: Ledger, *arguments: object, **named: object) -> object:
        if failing:
            raise StorageError("the disk is full: make room")
        return real(self, *arguments, **named)

    monkeypatch.setattr(Ledger, step, fail)
    with bench.running():
        bench.write_good("a")
        bench.until(lambda: bool(bench.events("storage.failed")))
        bench.write_good("b", seed=2)
        failing = False
        bench.answered("b")
        bench.until(lambda: bool(bench.events("storage.recovered")))
    assert [(action.frame, action.seq) for action in bench.actions()] == [("a", 1), ("b", 2)]


def test_a_pair_saved_while_the_one_before_is_stuck_is_not_moved_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(tmp_path, layout="single")
    real = Ledger.decide
    failing = True

    def decide(self: Ledger, *arguments: object, **named: object) -> object:
        if failing:
            raise StorageError("the disk is full: make room")
        return real(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "decide", decide)
    with bench.running():
        bench.write_good("ResponseImage", seed=1)
        bench.until(lambda: bool(bench.events("storage.failed")))
        assert not list(bench.watch.iterdir())  # taken: NanoStation goes on
        bench.write_good("ResponseImage", seed=2)
        failing = False
        bench.until(lambda: len(bench.actions()) == 2)
        bench.until(lambda: not list(bench.watch.iterdir()))
    archive = bench.config.state.directory / "archive"
    assert [path.read_bytes() for path in sorted(archive.glob("*.jpg"))] == [jpeg(1), jpeg(2)]
    assert not bench.events("frame.lost")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    bench = make_bench(small_disk, layout="single")
    with bench.running():
        bench.write_good("first")
        bench.until(lambda: len(bench.actions()) == 1)
        bench.write_good("second", seed=2)
        bench.until(lambda: len(bench.actions()) == 2)
        third = {"third.jpg": jpeg(3), "third.txt": TEXT.format(wd=9500, sample="a").encode()}
        for name, data in third.items():
            (small_disk / "watch" / f".{name}").write_bytes(data)
        filler = fill(small_disk)
        for name in third:  # a name takes no room
            (small_disk / "watch" / f".{name}").rename(small_disk / "watch" / name)
        bench.until(lambda: bool(bench.events("storage.failed")) or len(bench.actions()) == 3)
        filler.unlink()
        bench.until(lambda: len(bench.actions()) == 3)
    assert [action.seq for action in bench.actions()] == [1, 2, 3]


def fill(disk: Path) -> Path:
    """Use up the last byte."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return filler


def row_of(bench: Bench, image: bytes, moves: tuple[Move, ...] = ()) -> LedgerRow:
    frame = FrameLoader.of(bench.config).build(
        "a", Path("a.jpg"), Path("a.txt"), image, (bench.watch / "a.txt").read_bytes()
    )
    return LedgerRow(
        row=1, state=RowState.TAKEN, seq=1, id="0" * 32, stem="a", image_name="a.jpg", text_name="a.txt",
        image_digest=frame.image_digest, text_digest=frame.text_digest, fingerprint=(), moves=moves,
        reason_code=None, reason_text=None, observation_json=None, decision_json=None,
    )  # fmt: skip


class TestAFrameThatIsReadAgainAfterACrash:
    def test_comes_from_where_it_was_moved(self, tmp_path: Path) -> None:
        bench = make_bench(tmp_path)
        bench.write_good("a")
        target = tmp_path / "1~a.jpg"
        row = row_of(bench, jpeg(1), (Move(str(bench.watch / "a.jpg"), str(target)),))
        (bench.watch / "a.jpg").rename(target)
        bench.write_good("a")
        (bench.watch / "a.jpg").write_bytes(jpeg(2))
        assert reload_frame(FrameLoader.of(bench.config), bench.watch, row).image_path == target

    def test_is_lost_when_its_files_are(self, tmp_path: Path) -> None:
        bench = make_bench(tmp_path)
        bench.write_good("a")
        row = row_of(bench, jpeg(1))
        (bench.watch / "a.jpg").unlink()
        with pytest.raises(PairIncompleteError, match="gone"):
            reload_frame(FrameLoader.of(bench.config), bench.watch, row)

    def test_is_waited_for_while_its_directory_is_away(self, tmp_path: Path) -> None:
        bench = make_bench(tmp_path)
        bench.write_good("a")
        row = row_of(bench, jpeg(1))
        bench.watch.rename(tmp_path / "away")
        with pytest.raises(StorageError):
            reload_frame(FrameLoader.of(bench.config), bench.watch, row)

    def test_is_not_mistaken_for_what_was_written_over_it(self, tmp_path: Path) -> None:
        bench = make_bench(tmp_path)
        bench.write_good("a")
        row = row_of(bench, jpeg(1))
        (bench.watch / "a.jpg").write_bytes(jpeg(2))
        with pytest.raises(PairIncompleteError, match="overwritten"):
            reload_frame(FrameLoader.of(bench.config), bench.watch, row)


class DiedError(Exception):
    """The process is gone."""


def test_a_text_that_was_edited_after_a_crash_is_answered_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(tmp_path)
    died = threading.Event()

    def die(*_: object, **__: object) -> None:
        died.set()
        raise DiedError

    def live_and_die() -> None:
        with bench.running():
            bench.write_good("a", seed=1)
            assert died.wait(20)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "decide", die)
        with pytest.raises(DiedError):
            live_and_die()
    with (bench.watch / "a.txt").open("a") as file:
        file.write("HV=15000\r\n")
    with bench.running():
        action = bench.answered("a")
    assert (action.seq, action.status) == (2, Status.ADJUST)
    (event,) = bench.events("frame.lost")
    assert event["error"] == "SEMD-F07"
    assert len(bench.actions()) == 1
