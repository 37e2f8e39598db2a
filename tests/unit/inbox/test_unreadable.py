"""Files that cannot be read, links, and events that were dropped: bounded, said, and never in the others' way."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from semd.decision.rules import DEFAULT_LIMITS
from semd.domain.axes import AXES
from semd.errors import FileLinkError
from semd.inbox.consume import move_file
from semd.inbox.frame import LoadedFrame, RejectedFrame
from semd.inbox.image import FrameSize
from semd.inbox.inbox import Inbox, InboxTimeouts, Item
from semd.inbox.load import FrameLoader
from semd.inbox.watch import Hints, Watch
from semd.protocol.identity import digest
from semd.protocol.pairing import Dialect

TIMEOUTS = InboxTimeouts(rescan_s=1.0, quiet_s=0.5, settle_s=10.0, unreadable_s=40.0)
TEXT = b"MAG=2000\r\nWD=9500\r\nBRIGHTNESS=40\r\nCONTRAST=50\r\n"
PNG = cv2.imencode(".png", np.random.default_rng(3).integers(20, 200, (120, 160), dtype=np.uint8))[1].tobytes()


class WatchedDirectory:
    def __init__(self, directory: Path, dialect: Dialect = Dialect.COXEM) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.loader = FrameLoader(dialect, FrameSize(160, 120), AXES, DEFAULT_LIMITS)
        self.inbox = Inbox(directory, self.loader, TIMEOUTS, lambda _: False)
        self.now_s = 100.0

    def pair(self, stem: str) -> None:
        (self.directory / f"{stem}.png").write_bytes(PNG)
        (self.directory / f"{stem}.txt").write_bytes(TEXT)

    def poll(self, wait_s: float = 0.0, hints: Hints | None = None) -> list[Item]:
        self.now_s += wait_s
        return self.inbox.poll(hints or Hints(), self.now_s)

    def stems(self, wait_s: float) -> list[str]:
        return [item.content.stem for item in self.poll(wait_s)]


@pytest.fixture
def watched(tmp_path: Path) -> WatchedDirectory:
    return WatchedDirectory(tmp_path / "watch")


def forbid(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Reading these fails, whoever runs the test: the system's administrator may read everything."""
    real = os.open

    def held(path: Path, flags: int) -> int:
        if path.name in names:
            raise PermissionError(13, "Permission denied")
        return real(path, flags)

    monkeypatch.setattr("semd.inbox.load.os.open", held)


def test_an_unreadable_image_is_waited_for_but_not_for_ever(
    watched: WatchedDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.pair("a")
    forbid(monkeypatch, "a.png")
    watched.poll()
    assert watched.poll(9.0) == []
    assert watched.inbox.unreadable == 0  # as yet its writer may be at it
    assert watched.poll(1.5) == []
    assert watched.inbox.unreadable == 1
    watched.pair("b")
    assert watched.poll(28.0) == []
    assert watched.stems(0.6) == ["b"]
    items = watched.poll(2.0)
    (frame,) = [item.content for item in items if item.content.stem == "a"]
    assert isinstance(frame, LoadedFrame)  # its parameters are good: it is answered, with HOLD
    assert frame.image is None
    assert frame.image_error is not None
    assert (frame.image_error.code, frame.image_digest) == ("SEMD-F08", digest(b""))
    assert "'a.png' could not be read for 40 s: Permission denied" in frame.image_error.message
    for item in items:
        watched.inbox.settle(item)
    assert watched.inbox.unreadable == 0


@pytest.mark.parametrize(("dialect", "name"), [(Dialect.COXEM, "a.txt"), (Dialect.ZEISS, "a.png")])
def test_without_its_parameters_it_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dialect: Dialect, name: str
) -> None:
    watched = WatchedDirectory(tmp_path / "watch", dialect)
    watched.pair("a")
    forbid(monkeypatch, name)
    watched.poll()
    assert watched.poll(39.9) == []
    (item,) = watched.poll(0.6)
    assert isinstance(item.content, RejectedFrame)
    assert item.content.error.code == "SEMD-F08"
    assert None in (item.content.image_digest, item.content.text_digest)


def test_a_lone_half_that_is_unreadable_is_rejected_as_such(
    watched: WatchedDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (watched.directory / "a.png").write_bytes(PNG)
    forbid(monkeypatch, "a.png")
    watched.poll()
    assert watched.poll(30.0) == []
    assert watched.inbox.unreadable == 1
    (item,) = watched.poll(10.5)
    assert isinstance(item.content, RejectedFrame)
    assert item.content.error.code == "SEMD-F08"


def test_a_right_that_is_granted_in_time_makes_an_ordinary_frame(
    watched: WatchedDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.pair("a")
    with monkeypatch.context() as patch:
        forbid(patch, "a.png", "a.txt")
        watched.poll()
        assert watched.poll(35.0) == []
    (item,) = watched.poll(0.6)
    assert isinstance(item.content, LoadedFrame)
    assert item.content.image_error is None


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
@pytest.mark.parametrize("linked", ["a.png", "a.txt"])
@pytest.mark.parametrize("target", ["outside", "inside", "nowhere"])
def test_a_link_is_never_read_through(watched: WatchedDirectory, linked: str, target: str) -> None:
    watched.pair("a")
    path = watched.directory / linked
    data = path.read_bytes()
    path.unlink()
    to = watched.directory.parent / "secret" if target == "outside" else watched.directory / "other.dat"
    if target != "nowhere":
        to.write_bytes(data)
    path.symlink_to(to)
    watched.poll()
    (item,) = watched.poll(1.5)
    content = item.content
    error = content.image_error if isinstance(content, LoadedFrame) else content.error
    assert isinstance(content, LoadedFrame if linked == "a.png" else RejectedFrame)
    assert error is not None
    assert error.code == "SEMD-F09"
    assert repr(linked) in error.message


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_a_file_that_becomes_a_link_at_the_last_moment_is_not_read_through(
    watched: WatchedDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = watched.directory.parent / "secret"
    secret.write_bytes(TEXT)
    path = watched.directory / "a.txt"
    path.symlink_to(secret)
    monkeypatch.setattr(Path, "is_symlink", lambda _: False)  # it was none when it was looked at
    with pytest.raises(FileLinkError, match="has become a link"):
        watched.loader.read_text(path)
    assert watched.loader.read_text(path, follow_links=True) == TEXT


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_ends_no_look(watched: WatchedDirectory) -> None:
    os.mkfifo(watched.directory / "a.png")
    with pytest.raises(FileNotFoundError):
        watched.loader.read_image(watched.directory / "a.png")
    watched.pair("b")
    watched.poll()
    assert watched.stems(0.6) == ["b"]


def test_dropped_events_bring_a_scan_at_once_and_make_old_closes_worth_nothing(watched: WatchedDirectory) -> None:
    watched.poll()
    watched.pair("a")
    assert watched.poll(0.1) == []  # no event, and the next scan is due later
    assert watched.inbox.waiting == 0
    assert watched.poll(0.1, Hints(lost=True)) == []
    assert watched.inbox.waiting == 1
    assert watched.stems(0.6) == ["a"]
    watched.pair("b")
    (watched.directory / "b.txt").unlink()
    watched.poll(0.0, Hints({"b.png"}, {"b.png"}))
    (watched.directory / "b.txt").write_bytes(TEXT)
    # Without the loss the pair would be taken at once: both halves were closed.
    found = watched.poll(0.1, Hints({"b.txt"}, {"b.txt"}, lost=True))
    assert [item.content.stem for item in found if item.content.stem == "b"] == []
    assert "b" in watched.stems(0.6)


@pytest.mark.skipif(sys.platform != "linux", reason="inotify's own")
def test_an_overflow_of_inotify_is_heard(tmp_path: Path) -> None:
    inotify = importlib.import_module("watchdog.observers.inotify_c")
    watch = Watch(tmp_path)
    watch.start()
    try:
        watch.drain()
        (emitter,) = watch._observer.emitters  # type: ignore[union-attr]
        # What the kernel says, handed to the library as it would read it.
        emitter._inotify._inotify_fd.handle_event(
            inotify.InotifyEvent(-1, inotify.InotifyConstants.IN_Q_OVERFLOW, 0, b"")
        )
        assert watch.wait(5.0)
        hints = watch.drain()
        assert hints.lost
        assert not watch.drain().lost
        assert watch.healthy()
    finally:
        watch.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
@pytest.mark.parametrize("crashed", [False, True])
def test_a_link_that_goes_to_another_device_stays_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crashed: bool
) -> None:
    """Copying what it points to would put a file of elsewhere into quarantine."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"of another account")
    source, target = tmp_path / "a.png", tmp_path / "quarantine" / "1~a.png"
    source.symlink_to(secret)
    real = Path.replace

    def replace(self: Path, to: Path) -> Path:
        if self == source:
            raise OSError(errno.EXDEV, "cross-device")
        return real(self, to)

    monkeypatch.setattr(Path, "replace", replace)
    if crashed:
        target.parent.mkdir()
        target.with_name(f".{target.name}.partial").symlink_to(secret)
    assert move_file(source, target)
    assert target.readlink() == secret
    assert secret.read_bytes() == b"of another account"
    assert not os.path.lexists(source)
    source.symlink_to(secret)  # as a crash between copying and removing leaves it
    assert move_file(source, target)
    assert not os.path.lexists(source)
