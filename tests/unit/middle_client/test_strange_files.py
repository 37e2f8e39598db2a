"""Files that are no actions, and hosts that are no loopback."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest
from harness.middle_client import MiddleClientUnderTest, ack
from harness.outbox import drop_file, make_action
from structlog.testing import capture_logs

from semd.errors import LinkError
from semd.middle_client.backoff import Backoff
from semd.middle_client.clock import Clock
from semd.middle_client.link import TcpLink
from semd.protocol.action import MAX_MESSAGE_BYTES
from semd.testing import FakeClock


@pytest.fixture
def client(tmp_path: Path) -> MiddleClientUnderTest:
    return MiddleClientUnderTest(tmp_path / "actions")


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_only_a_regular_file_is_read(client: MiddleClientUnderTest, kind: str) -> None:
    action = make_action(1)
    path = client.directory / action.file_name
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(drop_file(client.directory.parent / "elsewhere", action))
    elif hasattr(os, "mkfifo"):
        os.mkfifo(path)
    else:
        pytest.skip("no named pipes on this system")
    second = client.drop(make_action(2))
    client.step()
    client.step(ack(second))
    assert [b"SEQ=2" in message for message in client.link.sent] == [True]
    assert os.path.lexists(client.directory / "refused" / action.file_name)
    if kind == "link":
        assert (client.directory.parent / "elsewhere" / action.file_name).is_file()


def test_no_more_of_a_file_is_read_than_an_action_may_have(client: MiddleClientUnderTest) -> None:
    path = client.directory / make_action(1).file_name
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a terabyte of holes: reading it whole would end the process
    assert path.stat().st_size > MAX_MESSAGE_BYTES
    client.step()
    assert client.places() == {"refused": [1]}


@pytest.mark.skipif(sys.platform == "win32", reason="the hosts file is looked up otherwise")
def test_a_name_that_comes_to_mean_another_computer_is_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def look_up(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(2, 1, 6, "", ("192.0.2.7", port))]

    monkeypatch.setattr("semd.middle_client.link.socket.getaddrinfo", look_up)
    clock = FakeClock()
    link = TcpLink(
        "localhost", 9025, allow_remote=False, connect_timeout_s=1.0, hello=(),
        backoff=Backoff(1.0, 1.0, random.Random(0)), clock=Clock(clock.now, clock.monotonic_s),
    )  # fmt: skip
    with capture_logs() as logs:
        link.poll()
    assert asked == ["localhost"]
    assert "allow_remote" in logs[0]["reason"]
    with pytest.raises(LinkError):
        link.send(b"x")
