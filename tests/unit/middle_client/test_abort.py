"""The abort file: nothing is sent while it stands, whatever it is and however the process ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from harness.middle_client import BRIGHTNESS_TOO, MiddleClientUnderTest, ack
from harness.outbox import make_action
from structlog.testing import capture_logs

from semd.errors import StorageError
from semd.middle_client.abort import AbortFile


@pytest.fixture
def client(tmp_path: Path) -> MiddleClientUnderTest:
    return MiddleClientUnderTest(tmp_path / "actions")


def test_nothing_is_sent_while_the_abort_stands_and_what_waits_expires(client: MiddleClientUnderTest) -> None:
    client.raise_abort()
    for seq in (1, 2):
        client.drop(make_action(seq, lifetime_s=30.0))
    for _ in range(5):
        client.step(after_s=1.0)
    assert client.link.sent == []
    assert client.places() == {"": [1, 2]}
    client.step(after_s=30.0)
    client.step()
    assert client.places() == {"expired": [1, 2]}
    assert client.trail() == []


def test_an_abort_outlives_the_process_and_clearing_it_goes_on(client: MiddleClientUnderTest) -> None:
    client.raise_abort()
    first = client.drop(make_action(1))
    client.step()
    client.start_process()
    client.step()
    assert client.link.sent == []
    assert client.abort.clear()
    client.step()
    client.step(ack(first))
    assert client.places() == {"sent": [1]}
    assert not client.abort.clear()


def test_an_abort_between_two_actions_stops_the_second_and_still_hears_the_first(client: MiddleClientUnderTest) -> None:
    first = client.drop(make_action(1))
    client.drop(make_action(2))
    client.step()
    client.raise_abort()
    client.step(ack(first))
    client.step()
    assert len(client.link.sent) == 1
    assert client.places() == {"": [2], "sent": [1]}


def test_an_abort_stops_sending_again(client: MiddleClientUnderTest) -> None:
    client.drop(make_action(1, lifetime_s=30.0))
    client.step()
    client.link.drop("the cable")
    client.link.come_back()
    client.raise_abort()
    client.step()
    assert len(client.link.sent) == 1
    client.step(after_s=30.0)
    assert client.places() == {"uncertain": [1]}


@pytest.mark.parametrize("dialect", ["text", "aisem"])
def test_the_last_look_is_right_before_the_socket(
    tmp_path: Path, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The abort comes while the disk is still writing down what is about to be sent."""
    client = MiddleClientUnderTest(tmp_path / "actions", dialect)
    client.drop(make_action(1, lifetime_s=30.0))
    note = client.pending.note_sending

    def note_and_abort(*arguments: object, **named: object) -> None:
        note(*arguments, **named)  # type: ignore[arg-type]
        client.raise_abort()

    monkeypatch.setattr(client.pending, "note_sending", note_and_abort)
    client.step()
    assert client.link.sent == []
    client.step()
    assert [event for event, _ in client.trail()] == ["sending", "answer"]
    assert client.trail()[1] == ("answer", "not sent: aborted")
    # It never left: neither a restart nor the end of its time leaves it in doubt.
    client.start_process()
    client.step(after_s=30.0)
    assert client.places() == {"expired": [1]}


def test_an_abort_stops_aisem_between_two_commands(tmp_path: Path) -> None:
    client = MiddleClientUnderTest(tmp_path / "actions", "aisem")
    client.drop(make_action(1, exposure=BRIGHTNESS_TOO, lifetime_s=30.0))
    client.step()
    client.raise_abort()
    client.step(b"ok")
    client.step()
    assert client.link.sent == [b"BRT,40.000"]
    client.step(after_s=30.0)
    assert client.places() == {"uncertain": [1]}
    assert client.trail() == [("sending", "BRT,40.000"), ("answer", "reply ok")]


@pytest.mark.parametrize("name", ["ABORT", "ABORT.txt"])
@pytest.mark.parametrize("kind", ["file", "folder", "link to nowhere"])
def test_whatever_bears_the_name_is_an_abort(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    if kind == "file":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    assert str(path) in str(AbortFile(tmp_path).standing())
    if kind == "folder":
        with pytest.raises(StorageError, match="remove"):
            AbortFile(tmp_path).clear()
        assert AbortFile(tmp_path).standing() is not None
    else:
        assert AbortFile(tmp_path).clear()
        assert AbortFile(tmp_path).standing() is None


def test_other_names_are_no_abort(tmp_path: Path) -> None:
    (tmp_path / "ABORTED").touch()
    assert AbortFile(tmp_path).standing() is None
    assert AbortFile(tmp_path, "ABORTED").standing() is not None


def test_what_cannot_be_looked_for_counts_as_an_abort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("semd.middle_client.abort.os.lstat", fail)
    assert "cannot be looked for: Permission denied" in str(AbortFile(tmp_path).standing())


def test_an_abort_is_logged_when_it_comes_and_when_it_goes(client: MiddleClientUnderTest) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            client.gate.look()
        client.raise_abort()
        for _ in range(3):
            client.gate.look()
        client.abort.clear()
        client.gate.look()
        client.gate.look()
    assert [line["event"] for line in logs] == ["abort.stands", "abort.cleared"]
