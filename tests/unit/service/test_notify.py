"""The notify protocol of `sd_notify(3)` against a real datagram socket."""

from __future__ import annotations

import os
import socket
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from semd.service.notify import ServiceManager

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the protocol is that of systemd")


class Manager:
    """The listening side: a datagram socket as systemd binds it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    if request.param == "abstract" and not sys.platform.startswith("linux"):
        pytest.skip("abstract socket names are Linux's")
    listening = Manager(str(tmp_path / "notify") if request.param == "path" else f"@semd-test-{uuid.uuid4().hex}")
    yield listening
    listening.close()


class Time:
    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def environment(manager: Manager, **values: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.address} | values


def test_each_call_is_one_datagram_in_order(manager: Manager) -> None:
    told = ServiceManager.of_environment(environment(manager, WATCHDOG_USEC="60000000"))
    told.ready()
    told.ready()
    told.status("3 frames answered,\n1 waiting µ")
    told.progress()
    told.stopping()
    assert manager.heard() == [
        "READY=1",
        "STATUS=3 frames answered, 1 waiting µ",
        "WATCHDOG=1",
        "STOPPING=1",
    ]


def test_the_status_is_sent_when_it_changes(manager: Manager) -> None:
    told = ServiceManager(manager.address)
    for text in ("a", "a", "b", "a"):
        told.status(text)
    assert manager.heard() == ["STATUS=a", "STATUS=b", "STATUS=a"]


def test_progress_feeds_the_watchdog_four_times_a_period_and_sets_the_mark_every_time(manager: Manager) -> None:
    time = Time()
    told = ServiceManager(manager.address, watchdog_s=20.0, monotonic_s=time)
    assert told.progress_s == 100.0
    heard = []
    for _ in range(41):  # 20 s in steps of half a second, the first at 0
        told.progress()
        assert told.progress_s == time.s
        heard += [time.s - 100.0] * len(manager.heard())
        time.s += 0.5
    assert heard == [0.0, 5.0, 10.0, 15.0, 20.0]


@pytest.mark.parametrize(
    "watchdog",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid() + 1)},
    ],
)
def test_no_watchdog_that_is_meant_for_this_process_none_fed(manager: Manager, watchdog: dict[str, str]) -> None:
    told = ServiceManager.of_environment(environment(manager, **watchdog))
    told.progress()
    assert manager.heard() == []


def test_a_watchdog_meant_for_this_process_is_fed(manager: Manager) -> None:
    values = environment(manager, WATCHDOG_USEC="60000000", WATCHDOG_PID=str(os.getpid()))
    ServiceManager.of_environment(values).progress()
    assert manager.heard() == ["WATCHDOG=1"]


@pytest.mark.parametrize("values", [{}, {"NOTIFY_SOCKET": ""}])
def test_without_a_manager_only_the_mark_is_kept(values: dict[str, str]) -> None:
    told = ServiceManager.of_environment(values)
    before = told.progress_s
    told.ready()
    told.status("fine")
    told.progress()
    told.stopping()
    assert told.progress_s >= before


@pytest.mark.parametrize("address", ["/nowhere/at/all", "vsock:2:1234", "/" + "x" * 200])
def test_a_manager_that_cannot_be_reached_is_said_once_and_harms_nothing(address: str) -> None:
    told = ServiceManager(address, watchdog_s=0.001)
    with capture_logs() as logs:
        for _ in range(3):
            told.ready()
            told.progress()
    assert [line["event"] for line in logs] == ["notify.failed"]


def test_ready_is_repeated_until_the_manager_has_heard_it(tmp_path: Path) -> None:
    told = ServiceManager(str(tmp_path / "notify"))
    told.ready()
    manager = Manager(str(tmp_path / "notify"))
    told.ready()
    told.ready()
    assert manager.heard() == ["READY=1"]
    manager.close()


def test_a_manager_that_does_not_read_holds_nothing_up_for_long(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    told = ServiceManager(manager.address, watchdog_s=1e-9)
    for _ in range(600):  # until the kernel's queue is full; every send then fails within its patience
        told.progress()
        if told._failure:
            break
    assert "timed out" in told._failure or "unavailable" in told._failure
    told.ready()
    assert set(manager.heard()) == {"WATCHDOG=1"}
    told.ready()
    assert manager.heard() == ["READY=1"]
    manager.close()
