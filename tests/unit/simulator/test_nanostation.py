"""Virtual NanoStation and the protocol: pairs in every manner, commands in both wire dialects."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from semd.domain.axes import Axis
from semd.protocol.action import Action, Status, encode_action
from semd.protocol.pairing import Layout
from semd.protocol.parameter_text import parse_parameters
from semd.simulator.frame_writer import FrameWriter, ImageFormat, Manner
from semd.simulator.microscope import VirtualMicroscope
from semd.simulator.nanostation import NanoStation
from semd.simulator.sem_link import SemLink

IMAGE = np.random.default_rng(1).integers(0, 255, (480, 640), dtype=np.uint8)
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
ACTION = Action(
    id="a" * 32,
    seq=1,
    frame="frame-000000",
    status=Status.ADJUST,
    magnification=2000.0,
    targets={Axis.WD: 9.0, Axis.BRIGHTNESS: 50.0, Axis.CONTRAST: 50.0},
    deltas={Axis.WD: 0.0, Axis.BRIGHTNESS: 0.0, Axis.CONTRAST: 0.0},
    score=1.0,
    reward=None,
    step=0,
    issued=MOMENT,
    expires=MOMENT,
)


@pytest.mark.parametrize("manner", Manner)
@pytest.mark.parametrize("image_format", ImageFormat)
def test_every_manner_ends_in_a_whole_pair(tmp_path: Path, manner: Manner, image_format: ImageFormat) -> None:
    writer = FrameWriter(tmp_path, manner=manner, image_format=image_format, encoding="utf-16")
    assert writer.write(7, IMAGE, "MAG=2000\r\nWD=9500\r\n") == "frame-000007"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"frame-000007.{image_format}", "frame-000007.txt"]
    saved = cv2.imread(str(tmp_path / f"frame-000007.{image_format}"), cv2.IMREAD_GRAYSCALE)
    assert saved is not None
    assert np.abs(saved.astype(int) - IMAGE).mean() < 6
    assert parse_parameters((tmp_path / "frame-000007.txt").read_bytes()).wd_mm == 9.5


def test_single_layout_waits_until_the_pair_was_taken(tmp_path: Path) -> None:
    waits = 0

    def take_on_third_look(_: float) -> None:
        nonlocal waits
        waits += 1
        if waits == 3:
            for path in tmp_path.iterdir():
                path.unlink()

    writer = FrameWriter(tmp_path, Layout.SINGLE, sleep=take_on_third_look)
    assert writer.write(0, IMAGE, "MAG=1\n") == "ResponseImage"
    assert writer.write(1, IMAGE, "MAG=2\n") == "ResponseImage"
    assert waits == 3
    assert (tmp_path / "ResponseImage.txt").read_text() == "MAG=2\n"


def test_single_layout_stops_while_waiting(tmp_path: Path) -> None:
    writer = FrameWriter(tmp_path, Layout.SINGLE, stopped=lambda: True)
    writer.write(0, IMAGE, "MAG=1\n")
    assert writer.write(1, IMAGE, "MAG=2\n") is None
    assert (tmp_path / "ResponseImage.txt").read_text() == "MAG=1\n"


@dataclass
class Recorder:
    """Handler that records the commands."""

    actions: list[Action] = field(default_factory=list)
    wds_mm: list[float] = field(default_factory=list)

    def on_action(self, action: Action) -> Callable[[], None]:
        self.actions.append(action)
        return lambda: None

    def on_working_distance(self, wd_mm: float) -> Callable[[], None]:
        self.wds_mm.append(wd_mm)
        return lambda: None


@contextmanager
def serving(handler: Recorder, dialect: str) -> Iterator[tuple[str, int]]:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=SemLink(handler, stop.is_set).serve, args=(listener, dialect))
        thread.start()
        try:
            yield listener.getsockname()[:2]
        finally:
            stop.set()
            thread.join(10)
            assert not thread.is_alive()


def test_an_action_sent_twice_is_applied_once_and_acknowledged_twice() -> None:
    recorder = Recorder()
    message = encode_action(ACTION) + b"\n"
    with serving(recorder, "text") as address:
        for _ in range(2):  # the second time over a new connection, as after a dropped socket
            with socket.create_connection(address, timeout=10) as client, client.makefile("rb") as replies:
                client.sendall(message[:50])
                client.sendall(message[50:])
                assert replies.readline() == f"ACK {ACTION.id}\n".encode()
    assert len(recorder.actions) == 1


def test_a_damaged_message_is_refused_for_good() -> None:
    recorder = Recorder()
    with (
        serving(recorder, "text") as address,
        socket.create_connection(address, timeout=10) as client,
        client.makefile("rb") as replies,
    ):
        client.sendall(encode_action(ACTION).replace(b"WD=9", b"WD=8", 1) + b"\n")
        assert replies.readline().startswith(f"NAK {ACTION.id} ".encode())
    assert recorder.actions == []


def test_aisem_commands() -> None:
    recorder = Recorder()
    with serving(recorder, "aisem") as address, socket.create_connection(address, timeout=10) as client:
        for command in (b"Connected.", b"COMM.START.", b"READY", b"WDMAG,9.5123,2000"):
            client.sendall(command)
        assert client.recv(200).decode("euc-kr")
        client.sendall(b"WDMAG,8.25,2000")
        assert client.recv(200)
        client.sendall(b"FINISH")
    assert recorder.wds_mm == [9.5123, 8.25]


def test_the_station_moves_scans_and_reads_the_action_back(tmp_path: Path) -> None:
    station = NanoStation(VirtualMicroscope("tinball", 2000.0, 3), FrameWriter(tmp_path))
    station.scan_and_save()
    station.on_action(ACTION)()
    second = parse_parameters((tmp_path / "frame-000001.txt").read_bytes())
    assert (second.wd_mm, second.brightness, second.contrast) == (9.0, 50.0, 50.0)
    assert second.action_id == ACTION.id
    assert not station.ended.is_set()
    station.on_action(replace(ACTION, id="b" * 32, status=Status.DONE))()
    assert station.ended.is_set()
    assert len(station.taken) == 2
