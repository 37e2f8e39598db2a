"""Directories and disks that fail under the daemon: it says so once, loses nothing and goes on when they are back."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.daemon_process import TEXT, DaemonUnderTest, jpeg, make_daemon

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
    daemon = make_daemon(tmp_path)
    with daemon.running():
        for number in range(3):
            daemon.write_good(f"f{number}", seed=number)
            daemon.answered(f"f{number}")
    (event,) = daemon.events("watch.failed")
    assert (event["error"], event["level"]) == ("SEMD-S01", "warning")
    assert not daemon.events("storage.failed")


def test_a_directory_that_is_replaced_by_another_of_its_name(tmp_path: Path) -> None:
    daemon = make_daemon(tmp_path)
    with daemon.running():
        daemon.write_good("first")
        daemon.answered("first")
        fresh = tmp_path / "fresh"
        fresh.mkdir()
        daemon.watch.rename(tmp_path / "old")
        fresh.rename(daemon.watch)
        daemon.write_good("second", seed=2)
        daemon.answered("second")
    assert [action.seq for action in daemon.actions()] == [1, 2]


@pytest.mark.parametrize("step", ["claim", "decide", "published"])
def test_a_ledger_that_cannot_be_written_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    daemon = make_daemon(tmp_path)
    real = getattr(Ledger, step)
    failing = True

    def fail(self: Ledger, *arguments: object, **named: object) -> object:
        if failing:
            raise StorageError("the disk is full: make room")
        return real(self, *arguments, **named)

    monkeypatch.setattr(Ledger, step, fail)
    with daemon.running():
        daemon.write_good("a")
        daemon.until(lambda: bool(daemon.events("storage.failed")))
        daemon.write_good("b", seed=2)
        failing = False
        daemon.answered("b")
        daemon.until(lambda: bool(daemon.events("storage.recovered")))
    assert [(action.frame, action.seq) for action in daemon.actions()] == [("a", 1), ("b", 2)]


def test_a_pair_saved_while_the_one_before_is_stuck_is_not_moved_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = make_daemon(tmp_path, layout="single")
    real = Ledger.decide
    failing = True

    def decide(self: Ledger, *arguments: object, **named: object) -> object:
        if failing:
            raise StorageError("the disk is full: make room")
        return real(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "decide", decide)
    with daemon.running():
        daemon.write_good("ResponseImage", seed=1)
        daemon.until(lambda: bool(daemon.events("storage.failed")))
        assert not list(daemon.watch.iterdir())  # taken: NanoStation goes on
        daemon.write_good("ResponseImage", seed=2)
        failing = False
        daemon.until(lambda: len(daemon.actions()) == 2)
        daemon.until(lambda: not list(daemon.watch.iterdir()))
    archive = daemon.config.state.directory / "archive"
    assert [path.read_bytes() for path in sorted(archive.glob("*.jpg"))] == [jpeg(1), jpeg(2)]
    assert not daemon.events("frame.lost")


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
    daemon = make_daemon(small_disk, layout="single")
    with daemon.running():
        daemon.write_good("first")
        daemon.until(lambda: len(daemon.actions()) == 1)
        daemon.write_good("second", seed=2)
        daemon.until(lambda: len(daemon.actions()) == 2)
        third = {"third.jpg": jpeg(3), "third.txt": TEXT.format(wd=9500, sample="a").encode()}
        for name, data in third.items():
            (small_disk / "watch" / f".{name}").write_bytes(data)
        filler = fill(small_disk)
        for name in third:  # a name takes no room
            (small_disk / "watch" / f".{name}").rename(small_disk / "watch" / name)
        daemon.until(lambda: bool(daemon.events("storage.failed")) or len(daemon.actions()) == 3)
        filler.unlink()
        daemon.until(lambda: len(daemon.actions()) == 3)
    assert [action.seq for action in daemon.actions()] == [1, 2, 3]


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


def row_of(daemon: DaemonUnderTest, image: bytes, moves: tuple[Move, ...] = ()) -> LedgerRow:
    frame = FrameLoader.of(daemon.config).build(
        "a", Path("a.jpg"), Path("a.txt"), image, (daemon.watch / "a.txt").read_bytes()
    )
    return LedgerRow(
        row=1, state=RowState.TAKEN, seq=1, id="0" * 32, stem="a", image_name="a.jpg", text_name="a.txt",
        image_digest=frame.image_digest, text_digest=frame.text_digest, fingerprint=(), moves=moves,
        reason_code=None, reason_text=None, observation_json=None, decision_json=None,
    )  # fmt: skip


class TestAFrameThatIsReadAgainAfterACrash:
    def test_comes_from_where_it_was_moved(self, tmp_path: Path) -> None:
        daemon = make_daemon(tmp_path)
        daemon.write_good("a")
        target = tmp_path / "1~a.jpg"
        row = row_of(daemon, jpeg(1), (Move(str(daemon.watch / "a.jpg"), str(target)),))
        (daemon.watch / "a.jpg").rename(target)
        daemon.write_good("a")
        (daemon.watch / "a.jpg").write_bytes(jpeg(2))
        assert reload_frame(FrameLoader.of(daemon.config), daemon.watch, row).image_path == target

    def test_is_lost_when_its_files_are(self, tmp_path: Path) -> None:
        daemon = make_daemon(tmp_path)
        daemon.write_good("a")
        row = row_of(daemon, jpeg(1))
        (daemon.watch / "a.jpg").unlink()
        with pytest.raises(PairIncompleteError, match="gone"):
            reload_frame(FrameLoader.of(daemon.config), daemon.watch, row)

    def test_is_waited_for_while_its_directory_is_away(self, tmp_path: Path) -> None:
        daemon = make_daemon(tmp_path)
        daemon.write_good("a")
        row = row_of(daemon, jpeg(1))
        daemon.watch.rename(tmp_path / "away")
        with pytest.raises(StorageError):
            reload_frame(FrameLoader.of(daemon.config), daemon.watch, row)

    def test_is_not_mistaken_for_what_was_written_over_it(self, tmp_path: Path) -> None:
        daemon = make_daemon(tmp_path)
        daemon.write_good("a")
        row = row_of(daemon, jpeg(1))
        (daemon.watch / "a.jpg").write_bytes(jpeg(2))
        with pytest.raises(PairIncompleteError, match="overwritten"):
            reload_frame(FrameLoader.of(daemon.config), daemon.watch, row)


class DiedError(Exception):
    """The process is gone."""


def test_a_text_that_was_edited_after_a_crash_is_answered_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = make_daemon(tmp_path)
    died = threading.Event()

    def die(*_: object, **__: object) -> None:
        died.set()
        raise DiedError

    def live_and_die() -> None:
        with daemon.running():
            daemon.write_good("a", seed=1)
            assert died.wait(20)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "decide", die)
        with pytest.raises(DiedError):
            live_and_die()
    with (daemon.watch / "a.txt").open("a") as file:
        file.write("HV=15000\r\n")
    with daemon.running():
        action = daemon.answered("a")
    assert (action.seq, action.status) == (2, Status.ADJUST)
    (event,) = daemon.events("frame.lost")
    assert event["error"] == "SEMD-F07"
    assert len(daemon.actions()) == 1
