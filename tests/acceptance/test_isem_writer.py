"""Every manner of writing ends in a readable pair, and shows on the way what its name says."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from independent_sem import VirtualSem
from isem_column import Column, Knobs
from isem_manners import MANNERS, Delivery, Manner, Units, encode_text
from isem_writer import FrameRecord, FrameWriter, NotTakenError

KNOBS = Knobs(2000.0, 9.61237, 41.25, 63.5)
TO_MM = {"": 1e-3, "um": 1e-3, "mm": 1.0, "m": 1e3, "nm": 1e-6}


def a_column() -> Column:
    return Column.off_focus(
        "crystals", magnification=2000, focus_mm=9.5, discs_off=3, brightness=45, contrast=55, seed=2
    )


def read_text(data: bytes) -> dict[str, str]:
    """Decode by the contract's rule and return the entries by upper-case key."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = data.decode("utf-16")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp949")
    pairs = [line.split("=", 1) for line in text.splitlines() if "=" in line]
    return {key.upper(): value for key, value in pairs}


def number_and_unit(value: str) -> tuple[float, str]:
    digits = value.rstrip("abcdefghijklmnopqrstuvwxyzKX% ")
    return float(digits), value[len(digits) :].strip()


@pytest.mark.parametrize("units", list(Units))
def test_units_state_the_same_setting(units: Units) -> None:
    manner = Manner(units=units)
    entries = read_text(encode_text(KNOBS, "화분", "ab" * 16, manner, np.random.default_rng(0)))
    wd, unit = number_and_unit(entries["WD"])
    assert wd * TO_MM[unit] == pytest.approx(9.61237, abs=1e-9)
    mag, word = number_and_unit(entries["MAG"])
    assert mag * (1000 if word == "K X" else 1) == 2000
    assert number_and_unit(entries["BRIGHTNESS"])[0] == 41.25
    assert number_and_unit(entries["CONTRAST"])[0] == 63.5
    assert entries["ACTION"] == "ab" * 16


@pytest.mark.parametrize("name", sorted(MANNERS))
def test_manner_ends_in_a_readable_pair(name: str, tmp_path: Path) -> None:
    with VirtualSem(tmp_path, a_column(), manners=[MANNERS[name]]) as sem:
        sem.scan()
        frame = wait_for_frames(sem, 1)
        files = sorted(path.name for path in tmp_path.iterdir())
        suffix = MANNERS[name].image_suffix
        assert files == sorted([f"{frame.stem}.{suffix}", f"{frame.stem}.txt"])
        image = cv2.imread(str(tmp_path / f"{frame.stem}.{suffix}"), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        assert image.shape == (480, 640)
        assert float(image.std()) > 5.0
        entries = read_text((tmp_path / f"{frame.stem}.txt").read_bytes())
        wd, unit = number_and_unit(entries["WD"])
        assert wd * TO_MM[unit] == pytest.approx(frame.knobs.wd_mm, abs=1e-9)


def wait_for_frames(sem: VirtualSem, count: int) -> FrameRecord:
    deadline = time.monotonic() + 20.0
    while len(sem.frames) < count:
        assert time.monotonic() < deadline, sem.troubles
        time.sleep(0.002)
    return sem.frames[count - 1]


def snapshots(manner: Manner, data: bytes, tmp_path: Path) -> list[bytes]:
    """Return the distinct contents that a poller saw under the final name while `data` was written."""
    writer = FrameWriter(tmp_path, "series", korean_stems=False, stop=threading.Event())
    work = threading.Thread(target=writer.write, args=("f", data, None, manner))
    seen: list[bytes] = []
    target = tmp_path / f"f.{manner.image_suffix}"
    work.start()
    while work.is_alive():
        if target.exists():
            content = target.read_bytes()
            if content and content not in seen:
                seen.append(content)
        time.sleep(0.002)
    work.join()
    final = target.read_bytes()
    return seen if seen and seen[-1] == final else [*seen, final]


def test_slow_text_pauses_inside_the_value_of_wd(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-16"):
        manner = Manner(delivery=Delivery.SLOW, encoding=encoding)
        whole = encode_text(KNOBS, "x", None, manner, np.random.default_rng(0))
        writer = FrameWriter(tmp_path, "series", korean_stems=False, stop=threading.Event())
        work = threading.Thread(target=writer.write, args=(encoding, None, whole, manner))
        work.start()
        path, seen = tmp_path / f"{encoding}.txt", set()
        while work.is_alive():
            if path.exists():
                seen.add(path.read_bytes())
            time.sleep(0.002)
        work.join()
        assert path.read_bytes() == whole
        codec = "utf-16" if encoding == "utf-16" else "utf-8"
        assert any(part.decode(codec, errors="ignore").endswith("WD=96") for part in seen)


DATA = bytes(range(1, 251)) * 40


def test_slow_writer_grows_in_place(tmp_path: Path) -> None:
    seen = snapshots(Manner(delivery=Delivery.SLOW), DATA, tmp_path)
    assert len(seen) >= 3
    assert seen[-1] == DATA
    assert all(DATA.startswith(part) for part in seen)


def test_preallocated_has_full_size_before_its_content(tmp_path: Path) -> None:
    seen = snapshots(Manner(delivery=Delivery.PREALLOCATED), DATA, tmp_path)
    assert {len(part) for part in seen} == {len(DATA)}
    assert seen[0] == bytes(len(DATA))
    assert seen[-1] == DATA


def test_renamed_is_whole_from_the_first_moment(tmp_path: Path) -> None:
    assert snapshots(Manner(delivery=Delivery.RENAMED), DATA, tmp_path) == [DATA]
    assert [path.name for path in tmp_path.iterdir()] == ["f.jpg"]


def test_announced_twice_writes_the_same_bytes_again(tmp_path: Path) -> None:
    writer = FrameWriter(tmp_path, "series", korean_stems=False, stop=threading.Event())
    work = threading.Thread(target=writer.write, args=("f", DATA, b"t", Manner(announce_twice=True)))
    work.start()
    times = set()
    while work.is_alive():
        if (tmp_path / "f.jpg").exists():
            times.add((tmp_path / "f.jpg").stat().st_mtime_ns)
        time.sleep(0.002)
    work.join()
    # The second writing ends the thread, so the poller may have missed it.
    times.add((tmp_path / "f.jpg").stat().st_mtime_ns)
    assert len(times) >= 2
    assert (tmp_path / "f.jpg").read_bytes() == DATA


def test_single_layout_waits_until_both_halves_are_gone(tmp_path: Path) -> None:
    watch = tmp_path / "watch"
    watch.mkdir()
    with VirtualSem(watch, a_column(), layout="single", dialect="aisem", axes=("wd",)) as sem:
        sem.scan()
        wait_for_frames(sem, 1)
        sem.scan()
        (watch / "ResponseImage.txt").rename(tmp_path / "a.txt")
        time.sleep(0.3)
        assert len(sem.frames) == 1
        (watch / "ResponseImage.jpg").rename(tmp_path / "a.jpg")
        wait_for_frames(sem, 2)
        assert sorted(path.name for path in watch.iterdir()) == ["ResponseImage.jpg", "ResponseImage.txt"]


def test_pair_that_is_never_taken_is_reported(tmp_path: Path) -> None:
    (tmp_path / "ResponseImage.jpg").write_bytes(b"x")
    writer = FrameWriter(tmp_path, "single", korean_stems=False, stop=threading.Event())
    with pytest.raises(NotTakenError, match="not moved"):
        writer.wait_until_taken(0.1)


def test_faulty_extras(tmp_path: Path) -> None:
    with VirtualSem(tmp_path, a_column()) as sem:
        orphan = sem.write_extra("orphan-image")
        assert [path.name for path in tmp_path.iterdir()] == [f"{orphan.stem}.jpg"]
        bad = sem.write_extra("bad-text")
        assert "WD" not in read_text((tmp_path / f"{bad.stem}.txt").read_bytes())
        torn = sem.write_extra("torn-image")
        assert not (tmp_path / f"{torn.stem}.jpg").read_bytes().endswith(b"\xff\xd9")
        alone = sem.write_extra("orphan-text")
        assert not (tmp_path / f"{alone.stem}.jpg").exists()


def test_korean_stems_are_distinct(tmp_path: Path) -> None:
    writer = FrameWriter(tmp_path, "series", korean_stems=True, stop=threading.Event())
    stems = [writer.stem(number) for number in range(1, 200)]
    assert len(set(stems)) == 199
    assert stems[0] == "ResponseImage_20200210,214801"
