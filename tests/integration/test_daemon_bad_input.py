"""Bad input: each kind gets a log line with its code and a reason file, nothing is lost, and the loop goes on."""

from __future__ import annotations

import errno
import io
import os
import shutil
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from harness.daemon_process import TEXT, DaemonUnderTest, jpeg, make_daemon, picture

from semd.protocol.action import Status


def bmp() -> bytes:
    return cv2.imencode(".bmp", picture(2))[1].tobytes()


def png_bomb() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def png() -> bytes:
    return cv2.imencode(".png", picture(2))[1].tobytes()


def tiff() -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, picture(2))
    return buffer.getvalue()


def lying_tiff() -> bytes:
    """Claims 2 billion rows."""
    data = bytearray(tiff())
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        place = file.pages.first.tags["ImageLength"].valueoffset
    data[place : place + 4] = struct.pack("<I", 2**31 - 1)
    return bytes(data)


BAD_IMAGES = [
    ("empty.jpg", b"", "SEMD-F04"),
    ("truncated.jpg", jpeg(2)[:-2000], "SEMD-F04"),
    ("zerotail.bmp", bmp()[:100_000] + bytes(len(bmp()) - 100_000), "SEMD-F04"),
    ("zerotail.jpg", jpeg(2)[:9_000] + bytes(9_000), "SEMD-F04"),
    ("mislabelled.png", jpeg(2), "SEMD-F05"),
    ("text.jpg", b"this is no picture", "SEMD-F05"),
    ("bomb.png", png_bomb(), "SEMD-F06"),
    ("heavy.bmp", b"BM" + bytes([1]) * 2_000_001, "SEMD-F06"),
    ("zerotail.png", png()[:9_000] + bytes(len(png()) - 9_000), "SEMD-F04"),
    ("zerotail.tif", tiff()[:200_000] + bytes(len(tiff()) - 200_000), "SEMD-F04"),
    ("lying.tif", lying_tiff(), "SEMD-F06"),
    ("small.png", cv2.imencode(".png", np.full((100, 100), 7, np.uint8))[1].tobytes(), "SEMD-F06"),
]


@pytest.mark.parametrize(("name", "data", "code"), BAD_IMAGES)
def test_a_bad_image_is_quarantined_and_answered_with_hold(tmp_path: Path, name: str, data: bytes, code: str) -> None:
    daemon = make_daemon(tmp_path)
    stem = name.split(".", maxsplit=1)[0]
    with daemon.running():
        (daemon.watch / name).write_bytes(data)
        (daemon.watch / f"{stem}.txt").write_text(TEXT.format(wd=9500, sample="a"))
        action = daemon.answered(stem)
        assert action.status is Status.HOLD
        assert all(delta == 0 for delta in action.deltas.values())
        daemon.write_good("next")
        assert daemon.answered("next").status is Status.ADJUST
    kept = {
        path.name.split("~")[1]: path.read_bytes()
        for path in daemon.quarantine.glob(f"*~{stem}.*")
        if "reason" not in path.name
    }
    assert kept == {name: data, f"{stem}.txt": TEXT.format(wd=9500, sample="a").encode()}
    (reason,) = daemon.reasons().values()
    assert reason.startswith(f"{code}: ")
    assert "What to do" in reason
    (event,) = [event for event in daemon.events("frame.answered") if event["frame"] == stem]
    assert event["error"] == code
    assert len(daemon.actions()) == 2


BAD_TEXTS = [
    ("missing", b"MAG=2000\nBRIGHTNESS=40\nCONTRAST=50\n", "SEMD-F02"),
    ("axis", b"MAG=2000\nWD=9500\nBRIGHTNESS=40\n", "SEMD-F02"),
    ("nan", b"MAG=2000\nWD=nan\nBRIGHTNESS=40\nCONTRAST=50\n", "SEMD-F01"),
    ("range", b"MAG=2000\nWD=900000\nBRIGHTNESS=40\nCONTRAST=50\n", "SEMD-F03"),
    ("encoding", b"MAG=2000\nWD=9500\nSAMPLE=\x80\xff\xfe\n", "SEMD-F01"),
    ("zeros", bytes(80), "SEMD-F01"),
    ("torn", b"MAG=2000\nWD=9500\nMAG=1000\nBRIGHTNESS=1\nCONTRAST=1\n", "SEMD-F01"),
]


@pytest.mark.parametrize(("stem", "text", "code"), BAD_TEXTS)
def test_bad_parameters_are_quarantined_without_an_action(tmp_path: Path, stem: str, text: bytes, code: str) -> None:
    daemon = make_daemon(tmp_path)
    with daemon.running():
        (daemon.watch / f"{stem}.jpg").write_bytes(jpeg(1))
        (daemon.watch / f"{stem}.txt").write_bytes(text)
        daemon.until(lambda: bool(daemon.reasons()))
        daemon.write_good("next")
        daemon.answered("next")
    (reason,) = daemon.reasons().values()
    assert reason.startswith(f"{code}: ")
    assert sorted(path.name.split("~")[1] for path in daemon.quarantine.iterdir() if "reason" not in path.name) == [
        f"{stem}.jpg",
        f"{stem}.txt",
    ]
    assert [action.frame for action in daemon.actions()] == ["next"]
    (event,) = daemon.events("frame.quarantined")
    assert (event["frame"], event["error"], event["level"]) == (stem, code, "warning")


@pytest.mark.parametrize("suffix", [".jpg", ".txt"])
def test_a_half_that_stays_alone_is_quarantined(tmp_path: Path, suffix: str) -> None:
    daemon = make_daemon(tmp_path)
    with daemon.running():
        data = jpeg(1) if suffix == ".jpg" else TEXT.format(wd=9500, sample="a").encode()
        (daemon.watch / f"alone{suffix}").write_bytes(data)
        daemon.until(lambda: bool(daemon.reasons()))
    (reason,) = daemon.reasons().values()
    assert reason.startswith("SEMD-F07: ")
    assert not daemon.actions()
    assert not list(daemon.watch.iterdir())


@pytest.mark.parametrize("stem", ["a\nSTATUS=DONE", "b\x1b[2J", "c\udcff\udcfe", "d:<>|?*", "e" * 251, "주" * 83])
def test_hostile_names_stay_inside_the_quarantine(tmp_path: Path, stem: str) -> None:
    daemon = make_daemon(tmp_path)
    with daemon.running():
        daemon.write_good(stem)
        daemon.write_good("next", seed=3)
        daemon.answered("next")
        if stem.isprintable():
            daemon.answered(stem)
        else:
            daemon.until(lambda: bool(daemon.reasons()))
    assert all(path.name.isprintable() for path in daemon.quarantine.iterdir()) if daemon.quarantine.exists() else True


def test_a_directory_that_vanishes_and_returns(tmp_path: Path) -> None:
    daemon = make_daemon(tmp_path)
    with daemon.running():
        daemon.write_good("first")
        daemon.answered("first")
        shutil.rmtree(daemon.watch)
        daemon.until(lambda: bool(daemon.events("storage.failed")))
        daemon.watch.mkdir()
        daemon.write_good("second", seed=2)
        daemon.answered("second")
        daemon.until(lambda: bool(daemon.events("storage.recovered")))
    assert len(daemon.events("storage.failed")) <= 2  # said once a cause, not at every attempt
    assert [action.seq for action in daemon.actions()] == [1, 2]


@pytest.mark.parametrize("cause", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_cannot_be_written_delays_but_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: int
) -> None:
    daemon = make_daemon(tmp_path)
    real = os.fsync
    failing = True

    def fsync(handle: int) -> None:
        if failing:
            raise OSError(cause, os.strerror(cause))
        real(handle)

    monkeypatch.setattr("semd.service.storage.os.fsync", fsync)
    with daemon.running():
        daemon.write_good("a")
        daemon.until(lambda: bool(daemon.events("storage.failed")))
        daemon.write_good("b", seed=2)
        assert not daemon.actions()
        failing = False
        daemon.answered("a")
        daemon.answered("b")
    assert [(action.frame, action.seq) for action in daemon.actions()] == [("a", 1), ("b", 2)]
    assert len({action.id for action in daemon.actions()}) == 2
    (event,) = daemon.events("storage.failed")
    assert event["error"] == "SEMD-S01"
    assert "actions" in str(event["reason"])


def test_a_text_edited_after_its_frame_was_taken_makes_no_new_frame(tmp_path: Path) -> None:
    daemon = make_daemon(tmp_path)
    with daemon.running():
        daemon.write_good("a")
        daemon.answered("a")
        with (daemon.watch / "a.txt").open("a") as file:
            file.write("HV=15000\r\n")
        daemon.until(lambda: bool(daemon.events("frame.repeated")))
        daemon.write_good("b", seed=2)
        daemon.answered("b")
    assert [action.frame for action in daemon.actions()] == ["a", "b"]


def test_a_stem_used_again_with_a_new_picture_is_a_new_frame(tmp_path: Path) -> None:
    daemon = make_daemon(tmp_path)
    with daemon.running():
        for seed in (1, 2):
            daemon.write_good("a", seed=seed)
            daemon.until(lambda seed=seed: len(daemon.actions()) == seed)
    assert [action.seq for action in daemon.actions()] == [1, 2]


def test_the_single_layout_takes_every_pair_away_also_the_same_one_again(tmp_path: Path) -> None:
    daemon = make_daemon(tmp_path, layout="single")
    with daemon.running():
        for number in range(3):
            daemon.write_good("ResponseImage", seed=min(number, 1))
            daemon.until(lambda: not list(daemon.watch.iterdir()))
    # The third is the second byte for byte: saved after that was taken away, so a frame of its own (and an id).
    assert [action.frame for action in daemon.actions()] == ["ResponseImage"] * 3
    assert len({action.id for action in daemon.actions()}) == 3
    archive = sorted(path.name for path in (daemon.config.state.directory / "archive").glob("*.jpg"))
    assert archive == [f"0000000{seq}~ResponseImage.jpg" for seq in (1, 2, 3)]
    assert [event["seq"] for event in daemon.events("frame.identical")] == [3]


def test_the_same_bad_pair_saved_again_is_put_aside_again(tmp_path: Path) -> None:
    daemon = make_daemon(tmp_path, layout="single")
    with daemon.running():
        for _ in range(2):
            (daemon.watch / "ResponseImage.jpg").write_bytes(jpeg(1))
            (daemon.watch / "ResponseImage.txt").write_bytes(b"MAG=2000\nWD=nan\n")
            daemon.until(lambda: not list(daemon.watch.iterdir()))
    assert len(daemon.reasons()) == 1
    assert len(list(daemon.quarantine.glob("*.jpg"))) == 2


def test_a_restart_answers_nothing_twice(tmp_path: Path) -> None:
    daemon: DaemonUnderTest = make_daemon(tmp_path)
    for count in (1, 2, 3):
        daemon.write_good(f"frame-{count}", seed=count)
        with daemon.running():
            daemon.answered(f"frame-{count}")
    assert [action.seq for action in daemon.actions()] == [1, 2, 3]
    assert len(daemon.events("frame.answered")) == 3
