"""When is a frame complete? Writers of every manner against an inbox whose clock the test turns."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from semd.decision.rules import DEFAULT_LIMITS
from semd.domain.axes import AXES
from semd.errors import StorageError
from semd.inbox.frame import LoadedFrame, RejectedFrame
from semd.inbox.image import FrameSize
from semd.inbox.inbox import Fingerprint, Inbox, InboxTimeouts, Item
from semd.inbox.load import FrameLoader
from semd.inbox.watch import Hints
from semd.protocol.pairing import Dialect

TIMEOUTS = InboxTimeouts(rescan_s=1.0, quiet_s=0.5, settle_s=10.0)
TEXT = b"MAG=2000\r\nWD=9500\r\nBRIGHTNESS=40\r\nCONTRAST=50\r\n"
PICTURE = np.random.default_rng(3).integers(20, 200, (480, 640), dtype=np.uint8)
JPEG = cv2.imencode(".jpg", PICTURE)[1].tobytes()
DARK_JPEG = cv2.imencode(".jpg", PICTURE // 3)[1].tobytes()
LOADER = FrameLoader(Dialect.COXEM, FrameSize(), AXES, DEFAULT_LIMITS)


class WatchedDirectory:
    """A watch directory, an inbox and a clock."""

    def __init__(self, directory: Path, is_known: Callable[[Fingerprint], bool] = lambda _: False) -> None:
        self.directory = directory
        self.inbox = Inbox(directory, LOADER, TIMEOUTS, is_known)
        self.now_s = 100.0

    def write(self, name: str, data: bytes) -> str:
        (self.directory / name).write_bytes(data)
        return name

    def poll(self, *, closed: tuple[str, ...] = (), touched: tuple[str, ...] = (), wait_s: float = 0.0) -> list[Item]:
        self.now_s += wait_s
        return self.inbox.poll(Hints({*closed, *touched}, set(closed)), self.now_s)

    def stems(self, **arguments: object) -> list[str]:
        return [item.content.stem for item in self.poll(**arguments)]  # type: ignore[arg-type]


@pytest.fixture
def watched(tmp_path: Path) -> WatchedDirectory:
    return WatchedDirectory(tmp_path)


def test_a_pair_that_was_closed_is_taken_at_once(watched: WatchedDirectory) -> None:
    watched.write("a.jpg", JPEG)
    assert watched.poll(closed=("a.jpg",)) == []
    watched.write("a.txt", TEXT)
    (item,) = watched.poll(closed=("a.txt",))
    frame = item.content
    assert isinstance(frame, LoadedFrame)
    assert (frame.stem, frame.parameters.wd_mm, frame.image_error) == ("a", 9.5, None)
    assert frame.image is not None
    assert frame.image.shape == (480, 640)


@pytest.mark.parametrize("order", [("a.jpg", "a.txt"), ("a.txt", "a.jpg")])
def test_without_events_a_pair_is_taken_once_it_has_rested(watched: WatchedDirectory, order: tuple[str, str]) -> None:
    data = {"a.jpg": JPEG, "a.txt": TEXT}
    for name in order:
        watched.write(name, data[name])
        assert watched.poll(wait_s=1.0) == []  # seen now for the first time
    assert watched.poll(wait_s=0.4) == []
    assert watched.stems(wait_s=0.2) == ["a"]


def test_it_comes_again_until_it_is_settled_and_then_never(watched: WatchedDirectory) -> None:
    watched.write("a.jpg", JPEG)
    watched.write("a.txt", TEXT)
    (item,) = watched.poll(closed=("a.jpg", "a.txt"))
    assert len(watched.poll()) == 1
    watched.inbox.settle(item)
    assert watched.poll(closed=("a.jpg", "a.txt")) == []
    assert watched.poll(wait_s=5.0) == []
    assert watched.inbox.waiting == 0


def test_an_identical_rewrite_and_a_new_frame_under_an_old_stem_come_again(watched: WatchedDirectory) -> None:
    watched.write("a.jpg", JPEG)
    watched.write("a.txt", TEXT)
    (item,) = watched.poll(closed=("a.jpg", "a.txt"))
    watched.inbox.settle(item)
    watched.write("a.jpg", JPEG)
    os.utime(watched.directory / "a.jpg", ns=(1, 2))
    assert watched.poll(closed=("a.jpg",), wait_s=2.0) == []  # its text may be about to come anew, too
    # The ledger knows its bytes: it is the one to say that nothing is new.
    assert watched.stems(wait_s=0.6) == ["a"]


@pytest.mark.parametrize("order", [("a.jpg", "a.txt"), ("a.txt", "a.jpg")])
def test_halves_of_two_frames_under_one_stem_are_never_mixed(watched: WatchedDirectory, order: tuple[str, str]) -> None:
    old, new = {"a.jpg": JPEG, "a.txt": TEXT}, {"a.jpg": DARK_JPEG, "a.txt": TEXT.replace(b"9500", b"9600")}
    for name in order:
        watched.write(name, old[name])
    (item,) = watched.poll(closed=order)
    watched.inbox.settle(item)
    found = []
    for name in order:
        watched.write(name, new[name])
        found += watched.poll(closed=(name,), wait_s=0.2)
    (item,) = found
    assert isinstance(item.content, LoadedFrame)
    assert item.content.parameters.wd_mm == 9.6
    assert item.content.image is not None
    assert item.content.image.max() < 90


@pytest.mark.parametrize("cut", [b"MAG=2000\r\nWD=9500\r\nBRIGHTNESS=40\r\nCONTRAST=5", b"MAG=2000\r\nWD=95"])
def test_a_text_cut_within_a_value_is_waited_for(watched: WatchedDirectory, cut: bytes) -> None:
    watched.write("a.jpg", JPEG)
    watched.write("a.txt", cut)
    assert watched.poll(closed=("a.jpg",)) == []
    assert watched.poll(touched=("a.txt",), wait_s=0.6) == []
    watched.write("a.txt", TEXT)
    (item,) = watched.poll(closed=("a.txt",))
    assert isinstance(item.content, LoadedFrame)
    assert item.content.parameters.contrast == 50.0


def test_a_text_without_a_last_line_end_is_taken_in_the_end(watched: WatchedDirectory) -> None:
    watched.write("a.jpg", JPEG)
    watched.write("a.txt", TEXT.rstrip())
    assert watched.poll(closed=("a.jpg", "a.txt")) == []
    assert watched.stems(wait_s=1.1) == ["a"]


def test_a_text_with_fewer_lines_than_usual_is_given_time(watched: WatchedDirectory) -> None:
    for stem, text in (("a", TEXT + b"ACTION=x\r\n"), ("b", TEXT)):
        watched.write(f"{stem}.jpg", JPEG)
        watched.write(f"{stem}.txt", text)
    items = watched.poll(closed=("a.jpg", "a.txt"))
    assert [item.content.stem for item in items] == ["a"]
    watched.inbox.settle(items[0])
    assert watched.poll(closed=("b.jpg", "b.txt")) == []
    assert watched.stems(wait_s=0.6) == ["b"]


@pytest.mark.parametrize("share", [0.2, 0.7, 0.999])
def test_a_slow_image_is_waited_for(watched: WatchedDirectory, share: float) -> None:
    watched.write("a.txt", TEXT)
    for data in (JPEG[: int(len(JPEG) * share)], JPEG[: int(len(JPEG) * share)] + bytes(300)):
        watched.write("a.jpg", data)
        assert watched.poll(closed=("a.jpg", "a.txt"), wait_s=2.0) == []
        assert watched.poll(wait_s=6.0) == []
    watched.write("a.jpg", JPEG)
    assert watched.stems(closed=("a.jpg",)) == ["a"]


def test_an_image_that_stays_incomplete_comes_with_its_error(watched: WatchedDirectory) -> None:
    watched.write("a.txt", TEXT)
    watched.write("a.jpg", JPEG[:-100])
    assert watched.poll(closed=("a.jpg", "a.txt")) == []
    assert watched.poll(wait_s=9.0) == []
    (item,) = watched.poll(wait_s=1.5)
    assert isinstance(item.content, LoadedFrame)
    assert item.content.image is None
    assert item.content.image_error is not None
    assert item.content.image_error.code == "SEMD-F04"
    assert item.content.parameters.magnification == 2000.0


@pytest.mark.parametrize(("name", "data", "missing"), [("a.jpg", JPEG, "parameter text"), ("a.txt", TEXT, "image")])
def test_a_half_is_rejected_after_the_settle_time(
    watched: WatchedDirectory, name: str, data: bytes, missing: str
) -> None:
    watched.write(name, data)
    assert watched.poll(closed=(name,)) == []
    assert watched.poll(wait_s=9.9) == []
    (item,) = watched.poll(wait_s=0.2)
    assert isinstance(item.content, RejectedFrame)
    assert item.content.error.code == "SEMD-F07"
    assert missing in item.content.error.message
    assert item.content.paths == [watched.directory / name]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"MAG=2000\r\nBRIGHTNESS=40\r\nCONTRAST=50\r\n", "SEMD-F02"),
        (b"MAG=2000\r\nWD=9500\r\nBRIGHTNESS=40\r\n", "SEMD-F02"),
        (TEXT.replace(b"9500", b"nan"), "SEMD-F01"),
        (TEXT.replace(b"9500", b"inf"), "SEMD-F01"),
        (TEXT.replace(b"9500", b"9,5"), "SEMD-F01"),
        (TEXT.replace(b"9500", b"9500 furlong"), "SEMD-F01"),
        (TEXT.replace(b"9500", b"95000000"), "SEMD-F03"),
        (TEXT.replace(b"2000", b"-5"), "SEMD-F03"),
        (b"\x80\x81\xfe\xff" * 9, "SEMD-F01"),
        (b"", "SEMD-F02"),
    ],
)
def test_bad_parameters_are_rejected_with_their_code(watched: WatchedDirectory, text: bytes, code: str) -> None:
    watched.write("a.jpg", JPEG)
    watched.write("a.txt", text)
    assert watched.poll(closed=("a.jpg", "a.txt")) == []  # it may be half of something good
    (item,) = watched.poll(wait_s=10.5)
    assert isinstance(item.content, RejectedFrame)
    assert item.content.error.code == code


def test_what_was_there_before_the_start_comes_in_the_order_of_its_writing(tmp_path: Path) -> None:
    for number, stem in enumerate(("b", "c", "a")):
        for suffix, data in ((".jpg", JPEG), (".txt", TEXT)):
            (tmp_path / f"{stem}{suffix}").write_bytes(data)
            os.utime(tmp_path / f"{stem}{suffix}", ns=(0, 10**18 + number))
    watched = WatchedDirectory(tmp_path)
    watched.poll()
    assert watched.stems(wait_s=0.6) == ["b", "c", "a"]


def test_frames_that_the_ledger_knows_are_not_read(tmp_path: Path) -> None:
    watched = WatchedDirectory(tmp_path, is_known=lambda fingerprint: fingerprint[0][0] == "a.jpg")
    for stem in "ab":
        watched.write(f"{stem}.jpg", JPEG)
        watched.write(f"{stem}.txt", TEXT)
    watched.poll()
    assert watched.stems(wait_s=0.6) == ["b"]


def test_strangers_are_left_alone(watched: WatchedDirectory) -> None:
    for name in ("notes.doc", ".hidden.jpg", "~a.jpg.tmp", "a.jpg.part", "x.reason.txt", "Thumbs.db", "noext"):
        watched.write(name, JPEG)
    (watched.directory / "folder.jpg").mkdir()
    watched.poll()
    assert watched.poll(wait_s=20.0) == []


@pytest.mark.parametrize("name", ["a\nSTATUS=DONE", "b\x1b[31m", "c\udcff"])
def test_hostile_stems_are_rejected(watched: WatchedDirectory, name: str) -> None:
    watched.write(f"{name}.jpg", JPEG)
    watched.write(f"{name}.txt", TEXT)
    watched.poll()
    (item,) = watched.poll(wait_s=1.5)
    assert isinstance(item.content, RejectedFrame)
    assert item.content.error.code == "SEMD-F05"


def test_a_file_its_writer_holds_is_waited_for(watched: WatchedDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.write("a.jpg", JPEG)
    watched.write("a.txt", TEXT)
    real = os.open

    def held(path: Path, flags: int) -> int:
        if path.suffix == ".jpg":
            raise PermissionError(13, "in use")
        return real(path, flags)

    with monkeypatch.context() as patch:
        patch.setattr("semd.inbox.load.os.open", held)
        assert watched.poll(closed=("a.jpg", "a.txt")) == []
    assert watched.stems(wait_s=0.6) == ["a"]


def test_a_directory_that_vanishes_is_said_and_gone_on_with(tmp_path: Path) -> None:
    directory = tmp_path / "watch"
    directory.mkdir()
    watched = WatchedDirectory(directory)
    watched.poll()
    directory.rmdir()
    with pytest.raises(StorageError, match="watch"):
        watched.poll(wait_s=1.1)
    directory.mkdir()
    watched.write("a.jpg", JPEG)
    watched.write("a.txt", TEXT)
    watched.poll()
    assert watched.stems(wait_s=0.6) == ["a"]


def test_a_backlog_comes_in_order_and_in_helpings(watched: WatchedDirectory) -> None:
    for number in range(70):
        for suffix, data in ((".jpg", JPEG), (".txt", TEXT)):
            path = watched.directory / f"f{number}{suffix}"
            path.write_bytes(data)
            os.utime(path, ns=(0, 10**18 + number // 10))
    watched.poll()
    watched.now_s += 0.6
    found: list[str] = []
    while len(found) < 70:
        assert watched.inbox.next_look_s(watched.now_s) == 0.0
        items = watched.poll()
        assert 0 < len(items) <= 32
        for item in items:
            watched.inbox.settle(item)
            found.append(item.content.stem)
    assert found == [f"f{number}" for number in range(70)]
    assert watched.poll() == []


def test_an_incomplete_frame_is_not_read_again_for_every_event_of_others(
    watched: WatchedDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.write("bad.jpg", JPEG[:-100])
    watched.write("bad.txt", TEXT)
    read: list[str] = []
    real = FrameLoader.build

    def build(self: FrameLoader, stem: str, *rest: object) -> LoadedFrame:
        read.append(stem)
        return real(self, stem, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(FrameLoader, "build", build)
    for number in range(50):
        watched.write("a.jpg", JPEG + bytes(number % 2))
        assert watched.poll(touched=("a.jpg",), wait_s=0.1) == []
    assert 1 <= len(read) <= 4


def test_a_text_that_lost_its_usual_last_line_end_is_given_longer(watched: WatchedDirectory) -> None:
    for stem, text in (("a", TEXT), ("b", TEXT[:-3])):
        watched.write(f"{stem}.jpg", JPEG)
        watched.write(f"{stem}.txt", text)
        items = watched.poll(closed=(f"{stem}.jpg", f"{stem}.txt"))
        for item in items:
            watched.inbox.settle(item)
    assert watched.poll(wait_s=2.0) == []
    (item,) = watched.poll(wait_s=0.6)
    assert isinstance(item.content, LoadedFrame)
    assert item.content.parameters.contrast == 5.0


def test_a_link_in_a_circle_hides_nothing(watched: WatchedDirectory) -> None:
    (watched.directory / "loop.jpg").symlink_to("loop.jpg")
    watched.write("a.jpg", JPEG)
    watched.write("a.txt", TEXT)
    watched.poll()
    assert watched.stems(wait_s=0.6) == ["a"]


def test_a_half_that_cannot_be_read_does_not_keep_the_loop_busy(
    watched: WatchedDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.write("a.txt", TEXT)
    watched.poll()

    def held(path: Path, flags: int) -> int:
        raise PermissionError(13, "in use")

    with monkeypatch.context() as patch:
        patch.setattr("semd.inbox.load.os.open", held)
        assert watched.poll(wait_s=10.5) == []
        assert watched.inbox.next_look_s(watched.now_s) == pytest.approx(TIMEOUTS.quiet_s)
    assert watched.stems(wait_s=0.6) == ["a"]


@pytest.mark.parametrize("other", ["a.png", "A.jpg"])
def test_another_image_of_that_name_waits_for_its_own_text(watched: WatchedDirectory, other: str) -> None:
    watched.write("a.jpg", JPEG)
    watched.write("a.txt", TEXT)
    watched.write(other, DARK_JPEG)
    (item,) = watched.poll(closed=("a.jpg", "a.txt", other))
    assert isinstance(item.content, LoadedFrame)
    assert item.content.image_path == watched.directory / "a.jpg"
    watched.inbox.settle(item)
    assert watched.stems(wait_s=10.5) == (
        ["A"] if other == "A.jpg" else []
    )  # under its own stem it is a half that stays alone


def test_a_crowded_directory_is_scanned_less_often(watched: WatchedDirectory) -> None:
    watched.poll()
    assert watched.inbox.next_look_s(watched.now_s) == pytest.approx(TIMEOUTS.rescan_s)
    for number in range(15_000):
        (watched.directory / f"{number}.doc").touch()
    watched.poll(wait_s=1.0)
    assert watched.inbox.next_look_s(watched.now_s) == pytest.approx(1.5)
