"""What a restart and a clock that is set must not change: the rate limit, and that nothing is sent too late."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from harness.outbox import START, ListLink, drop_file, make_action, make_desk, places
from hypothesis import given, settings
from hypothesis import strategies as st

from semd.middle_client.abort import AbortFile
from semd.middle_client.backoff import Backoff
from semd.middle_client.clock import Clock
from semd.middle_client.gate import Gate, RateLimit
from semd.middle_client.journal import Journal, JournalEntry
from semd.middle_client.text_forwarder import TextForwarder
from semd.protocol.action import Action


@dataclass
class TwoClocks:
    """The wall's can be set; the other goes on, and begins anew with the computer."""

    monotonic: float = 1000.0
    wall_s: float = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.wall_s)

    def go(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall_s += seconds

    @property
    def clock(self) -> Clock:
        return Clock(self.now, lambda: self.monotonic)


@dataclass
class Stand:
    directory: Path
    most: int = 3
    clocks: TwoClocks = field(default_factory=TwoClocks)
    link: ListLink = field(default_factory=ListLink)
    seq: int = 0

    def __post_init__(self) -> None:
        self.directory.mkdir()
        self.start_process()

    def start_process(self) -> None:
        clock = self.clocks.clock
        rate = RateLimit(self.most, clock)
        self.desk = make_desk(self.directory, clock, rate=rate)
        self.forwarder = TextForwarder(
            self.desk, self.link, clock, gate=Gate(AbortFile(self.directory), rate), answer_timeout_s=10.0,
            backoff=Backoff(1.0, 8.0, random.Random(0)),
        )  # fmt: skip

    def send(self, count: int) -> int:
        """Offer so many actions and acknowledge what comes; returns how many went out."""
        before = len(self.link.sent)
        actions = [self.drop(600.0) for _ in range(count)]
        for action in actions:
            self.forwarder.step()
            self.link.inbox.append(f"ACK {action.id}\n".encode() if len(self.link.sent) > before else b"")
            self.forwarder.step()
        return len(self.link.sent) - before

    def drop(self, lifetime_s: float) -> Action:
        self.seq += 1
        action = make_action(self.seq, lifetime_s=lifetime_s, issued=self.clocks.now())
        drop_file(self.directory, action)
        return action

    def step(self, after_s: float = 0.0) -> None:
        self.clocks.go(after_s)
        self.forwarder.step()


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path / "actions")


def test_a_restart_does_not_begin_a_new_minute(stand: Stand) -> None:
    assert stand.send(5) == 3
    for _ in range(3):
        stand.start_process()
        stand.step(after_s=10.0)
        assert len(stand.link.sent) == 3
    stand.step(after_s=31.0)
    assert len(stand.link.sent) == 4


def test_a_long_rest_leaves_nothing_to_wait_for(stand: Stand) -> None:
    assert stand.send(3) == 3
    stand.clocks.go(3600.0)
    stand.start_process()
    assert stand.send(3) == 3


@pytest.mark.parametrize("set_s", [-86400.0, 86400.0])
def test_the_clock_on_the_wall_has_no_say_in_the_rate(stand: Stand, set_s: float) -> None:
    assert stand.send(3) == 3
    stand.clocks.wall_s += set_s
    stand.start_process()
    assert stand.send(1) == 0
    stand.step(after_s=61.0)
    assert len(stand.link.sent) == 4


@pytest.mark.parametrize(("up_s", "goes"), [(20.0, 0), (59.0, 0), (61.0, 1), (5000.0, 1)])
def test_after_the_computer_was_started_its_uptime_is_what_is_known(stand: Stand, up_s: float, goes: int) -> None:
    assert stand.send(3) == 3
    stand.clocks.monotonic = up_s
    stand.start_process()
    assert stand.send(1) == goes


def test_what_was_written_down_and_not_sent_after_all_does_not_count(stand: Stand) -> None:
    stand.send(2)
    AbortFile(stand.directory).raise_it(stand.clocks.now())
    stand.drop(600.0)
    stand.step()
    stand.start_process()
    AbortFile(stand.directory).clear()
    stand.step()
    assert len(stand.link.sent) == 3


@settings(deadline=None)
@given(
    most=st.integers(1, 5),
    steps=st.lists(st.tuples(st.floats(0.0, 40.0), st.booleans(), st.booleans()), max_size=40),
)
def test_across_restarts_no_minute_holds_more_than_the_most(most: int, steps: list[tuple[float, bool, bool]]) -> None:
    """And nobody waits more than a second longer than without the restart."""
    clocks = TwoClocks()
    rate = RateLimit(most, clocks.clock)
    memory: tuple[tuple[int, int], ...] = ()
    went_s: list[float] = []
    for pause_s, restarts, wants in steps:
        clocks.go(pause_s)
        if restarts:
            rate = RateLimit(most, clocks.clock)
            rate.remember(json.loads(json.dumps(memory)))
        recent = [time_s for time_s in went_s if clocks.monotonic - time_s < 60.0 - 1e-6]
        if len([time_s for time_s in went_s if clocks.monotonic - time_s < 61.0]) < most:
            assert rate.wait_s() == 0.0
        if wants and rate.wait_s() == 0.0:
            assert len(recent) < most
            memory = rate.memory(with_one_more=True)
            rate.count()
            went_s.append(clocks.monotonic)
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


def test_a_clock_set_back_lets_nothing_be_sent_late(stand: Stand) -> None:
    stand.link.is_up = False
    stand.drop(60.0)
    stand.step()
    stand.clocks.wall_s -= 3600.0
    stand.step(after_s=61.0)
    stand.link.come_back()
    stand.step()
    assert stand.link.sent == []
    assert places(stand.directory) == {"expired": [1]}


def test_a_clock_set_back_and_an_action_in_doubt(stand: Stand) -> None:
    stand.drop(60.0)
    stand.step()
    stand.link.drop("the cable")
    stand.clocks.wall_s -= 3600.0
    stand.step(after_s=61.0)
    stand.link.come_back()
    stand.step()
    assert len(stand.link.sent) == 1
    assert places(stand.directory) == {"uncertain": [1]}


def test_a_clock_set_forward_expires_early_and_sends_nothing_late(stand: Stand) -> None:
    stand.link.is_up = False
    stand.drop(60.0)
    stand.step()
    stand.clocks.wall_s += 3600.0
    stand.step()
    assert places(stand.directory) == {"expired": [1]}


def test_a_clock_set_back_does_not_expire_what_is_young(stand: Stand) -> None:
    stand.link.is_up = False
    action = stand.drop(60.0)
    stand.step()
    stand.clocks.wall_s -= 3600.0
    stand.step(after_s=30.0)
    stand.link.come_back()
    stand.step()
    stand.link.inbox.append(f"ACK {action.id}\n".encode())
    stand.step()
    assert places(stand.directory) == {"sent": [1]}


@pytest.mark.parametrize("set_s", [-3600.0, 3600.0])
def test_waiting_for_an_answer_is_done_by_the_other_clock(stand: Stand, set_s: float) -> None:
    stand.drop(7200.0)
    stand.step()
    stand.clocks.wall_s += set_s
    stand.step(after_s=9.9)
    assert stand.link.drops == []
    stand.step(after_s=0.2)
    assert stand.link.drops == ["no answer within 10 s"]


# Answers that come when none is awaited any more


def test_a_late_ack_on_another_connection_settles_what_it_names(stand: Stand) -> None:
    action = stand.drop(5.0)
    stand.step()
    stand.link.drop("silence")
    stand.link.come_back()
    stand.link.inbox.append(f"ACK {action.id}\n".encode())
    stand.step(after_s=6.0)
    assert len(stand.link.sent) == 1
    assert places(stand.directory) == {"sent": [1]}


def test_an_ack_after_busy_tells_that_it_was_applied(stand: Stand) -> None:
    action = stand.drop(5.0)
    stand.step()
    stand.link.inbox.append(f"BUSY {action.id}\nACK {action.id}\n".encode())
    stand.step()
    stand.step(after_s=6.0)
    assert places(stand.directory) == {"sent": [1]}
    assert len(stand.link.sent) == 1


@pytest.mark.parametrize("verdict", ["NAK", "BUSY"])
def test_a_late_refusal_on_another_connection_is_not_believed(stand: Stand, verdict: str) -> None:
    action = stand.drop(600.0)
    stand.step()
    stand.link.drop("silence")
    stand.link.come_back()
    stand.link.inbox.append(f"{verdict} {action.id}\n".encode())
    stand.step()
    assert len(stand.link.sent) == 2
    assert places(stand.directory) == {"": [1]}


def test_a_line_without_end_breaks_one_connection_and_not_the_next(stand: Stand) -> None:
    action = stand.drop(600.0)
    stand.step()
    stand.link.inbox.append(b"ACK " * 1000)
    for _ in range(3):
        stand.step()
    assert len(stand.link.drops) == 1
    stand.link.come_back()
    stand.step()
    stand.link.inbox.append(f"ACK {action.id}\n".encode())
    stand.step()
    assert places(stand.directory) == {"sent": [1]}


def test_an_ack_for_what_was_never_sent_is_a_stray(stand: Stand) -> None:
    AbortFile(stand.directory).raise_it(stand.clocks.now())
    action = stand.drop(600.0)
    stand.step()
    stand.link.inbox.append(f"ACK {action.id}\n".encode())
    stand.step()
    assert places(stand.directory) == {"": [1]}
