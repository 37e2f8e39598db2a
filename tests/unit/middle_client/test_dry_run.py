"""A dry run files every action, says what it would send, and opens no link."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.middle_client import BRIGHTNESS_TOO, MiddleClientUnderTest
from harness.outbox import make_action
from structlog.testing import capture_logs

from semd.middle_client.dry_run import NoLink
from semd.protocol.action import Action, Status


@pytest.fixture
def client(tmp_path: Path) -> MiddleClientUnderTest:
    return MiddleClientUnderTest(tmp_path / "actions")


def test_a_dry_run_files_every_action_and_says_what_it_would_send(tmp_path: Path) -> None:
    client = MiddleClientUnderTest(tmp_path / "actions", "dry-aisem")
    client.drop(make_action(1, exposure=BRIGHTNESS_TOO))
    client.drop(make_action(2, status=Status.DONE))
    client.drop(make_action(3, lifetime_s=-1.0))
    with capture_logs() as logs:
        for _ in range(4):
            client.step()
    assert client.link.sent == []
    assert client.places() == {"dry-run": [1, 2], "expired": [3]}
    assert [line["reason"] for line in logs if line["event"] == "action.dry-run"] == [
        "would send BRT,40.000, then WDMAG,9.0000,2000",
        "would send nothing: no scan is asked for",
    ]
    assert client.trail() == []
    assert client.pending.newest_acknowledged_seq == 0


def test_a_dry_run_knows_the_abort_and_what_was_sent_before_it(client: MiddleClientUnderTest) -> None:
    client.drop(make_action(1))
    client.step()
    client.dialect = "dry"
    client.start_process()
    client.drop(make_action(2))
    client.raise_abort()
    client.step()
    client.step()
    assert client.places() == {"": [2], "uncertain": [1]}
    client.abort.clear()
    client.step()
    assert client.places() == {"dry-run": [2], "uncertain": [1]}


def test_what_aisem_cannot_say_is_refused_in_a_dry_run_as_well(tmp_path: Path) -> None:
    client = MiddleClientUnderTest(tmp_path / "actions", "dry-aisem")
    action = make_action(1)
    fields = {name: getattr(action, name) for name in action.__slots__}
    client.drop(Action(**fields | {"targets": {}, "deltas": {}}))
    client.step()
    assert client.places() == {"refused": [1]}


def test_the_stand_in_for_a_link_only_waits() -> None:
    waited: list[float] = []
    link = NoLink(waited.append)
    link.poll()
    link.wait(0.5)
    link.close(b"FINISH")
    assert (waited, link.is_up, link.connection) == ([0.5], False, 0)
