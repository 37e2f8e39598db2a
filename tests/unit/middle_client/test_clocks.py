"""Restarts and clocks that are set: the rate limit holds, and nothing is sent too late."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness.middle_client import MiddleClientUnderTest
from harness.outbox import make_action, places
from hypothesis import given, settings
from hypothesis import strategies as st

from semd.middle_client.abort import AbortFile
from semd.middle_client.gate import RateLimit
from semd.middle_client.journal import Journal, JournalEntry
from semd.protocol.action import Action
from semd.testing import FakeClock


class SendingClient(MiddleClientUnderTest):
    """Middle Client of the `text` dialect whose test offers actions and acknowledges them."""

    seq = 0

    def send(self, count: int) -> int:
        """Offer `count` actions and acknowledge what comes; return how many went out."""
        before = len(self.link.sent)
        actions = [self.offer(600.0) for _ in range(count)]
        for action in actions:
            self.forwarder.step()
            self.link.inbox.append(f"ACK {action.id}\n".encode() if len(self.link.sent) > before else b"")
            self.forwarder.step()
        return len(self.link.sent) - before

    def offer(self, lifetime_s: float) -> Action:
        """Put the next action into the directory, issued now."""
        self.seq += 1
        return self.drop(make_action(self.seq, lifetime_s=lifetime_s, issued=self.clock.now()))


@pytest.fixture
def client(tmp_path: Path) -> SendingClient:
    return SendingClient(tmp_path / "actions", most_per_minute=3, clock=FakeClock(1000.0, -1000.0))


def test_a_restart_does_not_begin_a_new_minute(client: SendingClient) -> None:
    assert client.send(5) == 3
    for _ in range(3):
        client.start_process()
        client.step(after_s=10.0)
        assert len(client.link.sent) == 3
    client.step(after_s=31.0)
    assert len(client.link.sent) == 4


def test_a_long_rest_leaves_nothing_to_wait_for(client: SendingClient) -> None:
    assert client.send(3) == 3
    client.clock.advance(3600.0)
    client.start_process()
    assert client.send(3) == 3


@pytest.mark.parametrize("set_s", [-86400.0, 86400.0])
def test_the_clock_on_the_wall_has_no_say_in_the_rate(client: SendingClient, set_s: float) -> None:
    assert client.send(3) == 3
    client.clock.wall_offset_s += set_s
    client.start_process()
    assert client.send(1) == 0
    client.step(after_s=61.0)
    assert len(client.link.sent) == 4


@pytest.mark.parametrize(("up_s", "goes"), [(20.0, 0), (59.0, 0), (61.0, 1), (5000.0, 1)])
def test_after_the_computer_was_started_its_uptime_is_what_is_known(
    client: SendingClient, up_s: float, goes: int
) -> None:
    assert client.send(3) == 3
    client.clock.restart_computer(up_s)
    client.start_process()
    assert client.send(1) == goes


def test_what_was_written_down_and_not_sent_after_all_does_not_count(client: SendingClient) -> None:
    client.send(2)
    AbortFile(client.directory).raise_it(client.clock.now())
    client.offer(600.0)
    client.step()
    client.start_process()
    AbortFile(client.directory).clear()
    client.step()
    assert len(client.link.sent) == 3


@settings(deadline=None)
@given(
    most=st.integers(1, 5),
    steps=st.lists(st.tuples(st.floats(0.0, 40.0), st.booleans(), st.booleans()), max_size=40),
)
def test_across_restarts_no_minute_holds_more_than_the_most(most: int, steps: list[tuple[float, bool, bool]]) -> None:
    """And nobody waits more than a second longer than without the restart."""
    clock = FakeClock(1000.0)
    rate = RateLimit(most, clock.as_clock())
    memory: tuple[tuple[int, int], ...] = ()
    went_s: list[float] = []
    for pause_s, restarts, wants in steps:
        clock.advance(pause_s)
        if restarts:
            rate = RateLimit(most, clock.as_clock())
            rate.remember(json.loads(json.dumps(memory)))
        recent = [time_s for time_s in went_s if clock.seconds - time_s < 60.0 - 1e-6]
        if len([time_s for time_s in went_s if clock.seconds - time_s < 61.0]) < most:
            assert rate.wait_s() == 0.0
        if wants and rate.wait_s() == 0.0:
            assert len(recent) < most
            memory = rate.memory(with_one_more=True)
            rate.count()
            went_s.append(clock.seconds)
    assert len(memory) <= 62


@pytest.mark.parametrize(
    "commands", [[[1]], [[1, 2, 3]], [["1", 2]], [[1, -2]], [[1.5, 2]], [[True, 1]], 7, "ab", [None]]
)
def test_a_journal_whose_commands_are_none_is_damaged(tmp_path: Path, commands: object) -> None:
    path = tmp_path / "journal.json"
    path.write_text(json.dumps({"commands": commands}))
    assert Journal(path).load() == (None, True)


def test_the_journal_keeps_them_and_an_older_one_has_none(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    entry = JournalEntry(commands=((7, 2), (9, 1)))
    Journal(path).save(entry)
    assert Journal(path).load() == (entry, False)
    path.write_text('{"in_flight": null, "was_sent": false, "baseline_seq": 0, "newest_acknowledged": null}')
    assert Journal(path).load() == (JournalEntry(), False)


# EXPIRES is a time on the wall


def test_a_clock_set_back_lets_nothing_be_sent_late(client: SendingClient) -> None:
    client.link.is_up = False
    client.offer(60.0)
    client.step()
    client.clock.wall_offset_s -= 3600.0
    client.step(after_s=61.0)
    client.link.come_back()
    client.step()
    assert client.link.sent == []
    assert places(client.directory) == {"expired": [1]}


def test_a_clock_set_back_and_an_action_in_doubt(client: SendingClient) -> None:
    client.offer(60.0)
    client.step()
    client.link.drop("the cable")
    client.clock.wall_offset_s -= 3600.0
    client.step(after_s=61.0)
    client.link.come_back()
    client.step()
    assert len(client.link.sent) == 1
    assert places(client.directory) == {"uncertain": [1]}


def test_a_clock_set_forward_expires_early_and_sends_nothing_late(client: SendingClient) -> None:
    client.link.is_up = False
    client.offer(60.0)
    client.step()
    client.clock.wall_offset_s += 3600.0
    client.step()
    assert places(client.directory) == {"expired": [1]}


def test_a_clock_set_back_does_not_expire_what_is_young(client: SendingClient) -> None:
    client.link.is_up = False
    action = client.offer(60.0)
    client.step()
    client.clock.wall_offset_s -= 3600.0
    client.step(after_s=30.0)
    client.link.come_back()
    client.step()
    client.link.inbox.append(f"ACK {action.id}\n".encode())
    client.step()
    assert places(client.directory) == {"sent": [1]}


@pytest.mark.parametrize("set_s", [-3600.0, 3600.0])
def test_waiting_for_an_answer_is_done_by_the_other_clock(client: SendingClient, set_s: float) -> None:
    client.offer(7200.0)
    client.step()
    client.clock.wall_offset_s += set_s
    client.step(after_s=9.9)
    assert client.link.drops == []
    client.step(after_s=0.2)
    assert client.link.drops == ["no answer within 10 s"]


# Answers that come when none is awaited any more


def test_a_late_ack_on_another_connection_settles_what_it_names(client: SendingClient) -> None:
    action = client.offer(5.0)
    client.step()
    client.link.drop("silence")
    client.link.come_back()
    client.link.inbox.append(f"ACK {action.id}\n".encode())
    client.step(after_s=6.0)
    assert len(client.link.sent) == 1
    assert places(client.directory) == {"sent": [1]}


def test_an_ack_after_busy_tells_that_it_was_applied(client: SendingClient) -> None:
    action = client.offer(5.0)
    client.step()
    client.link.inbox.append(f"BUSY {action.id}\nACK {action.id}\n".encode())
    client.step()
    client.step(after_s=6.0)
    assert places(client.directory) == {"sent": [1]}
    assert len(client.link.sent) == 1


@pytest.mark.parametrize("verdict", ["NAK", "BUSY"])
def test_a_late_refusal_on_another_connection_is_not_believed(client: SendingClient, verdict: str) -> None:
    action = client.offer(600.0)
    client.step()
    client.link.drop("silence")
    client.link.come_back()
    client.link.inbox.append(f"{verdict} {action.id}\n".encode())
    client.step()
    assert len(client.link.sent) == 2
    assert places(client.directory) == {"": [1]}


def test_a_line_without_end_breaks_one_connection_and_not_the_next(client: SendingClient) -> None:
    action = client.offer(600.0)
    client.step()
    client.link.inbox.append(b"ACK " * 1000)
    for _ in range(3):
        client.step()
    assert len(client.link.drops) == 1
    client.link.come_back()
    client.step()
    client.link.inbox.append(f"ACK {action.id}\n".encode())
    client.step()
    assert places(client.directory) == {"sent": [1]}


def test_an_ack_for_what_was_never_sent_is_a_stray(client: SendingClient) -> None:
    AbortFile(client.directory).raise_it(client.clock.now())
    action = client.offer(600.0)
    client.step()
    client.link.inbox.append(f"ACK {action.id}\n".encode())
    client.step()
    assert places(client.directory) == {"": [1]}
