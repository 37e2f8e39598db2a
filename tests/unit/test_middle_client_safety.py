"""Safety on the instrument: abort, rate limit, profile, dry run, and files that are no actions."""

from __future__ import annotations

import json
import os
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outbox_stand import ListLink, SetClock, drop_file, make_action, make_desk, make_gate, places
from structlog.testing import capture_logs

from semd.domain.action import MAX_MESSAGE_BYTES, Action, Status
from semd.domain.axes import Axis
from semd.domain.instrument import COXEM_EM30, GENERIC, InstrumentProfile
from semd.domain.limits import AxisLimits
from semd.errors import LinkError, StorageError
from semd.middle_client.abort import AbortFile
from semd.middle_client.aisem_forwarder import AisemForwarder
from semd.middle_client.backoff import Backoff
from semd.middle_client.clock import Clock
from semd.middle_client.dry_run import DryRunForwarder, NoLink
from semd.middle_client.framing import Templates
from semd.middle_client.gate import Gate, RateLimit
from semd.middle_client.link import TcpLink
from semd.middle_client.text_forwarder import TextForwarder

TOLERANCES = {Axis.WD: 0.002, Axis.BRIGHTNESS: 0.6, Axis.CONTRAST: 0.6}
BRIGHTNESS_TOO = {Axis.BRIGHTNESS: (40.0, 3.0)}


@dataclass
class Stand:
    directory: Path
    dialect: str = "text"
    profile: InstrumentProfile = GENERIC
    most_per_minute: int = 600
    link: ListLink = field(default_factory=ListLink)
    clock: SetClock = field(default_factory=SetClock)

    def __post_init__(self) -> None:
        self.directory.mkdir(exist_ok=True)
        self.start_process()

    def start_process(self) -> None:
        clock = Clock(self.clock.now, self.clock.monotonic_s)
        self.desk = make_desk(self.directory, clock, self.profile)
        self.gate = make_gate(self.directory, clock, self.most_per_minute)
        self.forwarder: TextForwarder | AisemForwarder | DryRunForwarder
        if self.dialect == "text":
            backoff = Backoff(1.0, 8.0, random.Random(0))
            self.forwarder = TextForwarder(
                self.desk, self.link, clock, gate=self.gate, answer_timeout_s=10.0, backoff=backoff
            )
        elif self.dialect == "aisem":
            self.forwarder = AisemForwarder(
                self.desk, self.link, clock, gate=self.gate, templates=Templates("BRT,{value}"),
                tolerances=TOLERANCES, answer_timeout_s=5.0, confirm_timeout_s=20.0,
            )  # fmt: skip
        else:
            templates = Templates("BRT,{value}") if self.dialect == "dry-aisem" else None
            self.forwarder = DryRunForwarder(self.desk, self.gate, templates)

    def step(self, *answers: bytes, after_s: float = 0.0) -> None:
        self.clock.seconds += after_s
        self.link.inbox += answers
        self.forwarder.step()

    def drop(self, action: Action) -> Action:
        drop_file(self.directory, action)
        return action

    @property
    def abort(self) -> AbortFile:
        return AbortFile(self.directory)

    def raise_abort(self) -> None:
        self.abort.raise_it(self.clock.now())

    def places(self) -> dict[str, list[int]]:
        return places(self.directory)

    def trail(self) -> list[tuple[str, object]]:
        """(event, command or answer) of every line."""
        lines = [
            json.loads(line)
            for path in sorted(self.directory.parent.glob("audit/*.jsonl"))
            for line in path.read_text().splitlines()
        ]
        return [(line["event"], line.get("answer", line.get("command"))) for line in lines]


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path / "actions")


def ack(action: Action) -> bytes:
    return f"ACK {action.id}\n".encode()


# Abort


def test_nothing_is_sent_while_the_abort_stands_and_what_waits_expires(stand: Stand) -> None:
    stand.raise_abort()
    for seq in (1, 2):
        stand.drop(make_action(seq, lifetime_s=30.0))
    for _ in range(5):
        stand.step(after_s=1.0)
    assert stand.link.sent == []
    assert stand.places() == {"": [1, 2]}
    stand.step(after_s=30.0)
    stand.step()
    assert stand.places() == {"expired": [1, 2]}
    assert stand.trail() == []


def test_an_abort_outlives_the_process_and_clearing_it_goes_on(stand: Stand) -> None:
    stand.raise_abort()
    first = stand.drop(make_action(1))
    stand.step()
    stand.start_process()
    stand.step()
    assert stand.link.sent == []
    assert stand.abort.clear()
    stand.step()
    stand.step(ack(first))
    assert stand.places() == {"sent": [1]}
    assert not stand.abort.clear()


def test_an_abort_between_two_actions_stops_the_second_and_still_hears_the_first(stand: Stand) -> None:
    first = stand.drop(make_action(1))
    stand.drop(make_action(2))
    stand.step()
    stand.raise_abort()
    stand.step(ack(first))
    stand.step()
    assert len(stand.link.sent) == 1
    assert stand.places() == {"": [2], "sent": [1]}


def test_an_abort_stops_sending_again(stand: Stand) -> None:
    stand.drop(make_action(1, lifetime_s=30.0))
    stand.step()
    stand.link.drop("the cable")
    stand.link.come_back()
    stand.raise_abort()
    stand.step()
    assert len(stand.link.sent) == 1
    stand.step(after_s=30.0)
    assert stand.places() == {"uncertain": [1]}


@pytest.mark.parametrize("dialect", ["text", "aisem"])
def test_the_last_look_is_right_before_the_socket(
    tmp_path: Path, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The abort comes while the disk is still writing down what is about to be sent."""
    stand = Stand(tmp_path / "actions", dialect)
    stand.drop(make_action(1, lifetime_s=30.0))
    note = stand.desk.note_sending

    def note_and_abort(*arguments: object, **named: object) -> None:
        note(*arguments, **named)  # type: ignore[arg-type]
        stand.raise_abort()

    monkeypatch.setattr(stand.desk, "note_sending", note_and_abort)
    stand.step()
    assert stand.link.sent == []
    stand.step()
    assert [event for event, _ in stand.trail()] == ["sending", "answer"]
    assert stand.trail()[1] == ("answer", "not sent: aborted")
    # It never left: neither a restart nor the end of its time leaves it in doubt.
    stand.start_process()
    stand.step(after_s=30.0)
    assert stand.places() == {"expired": [1]}


def test_an_abort_stops_aisem_between_two_commands(tmp_path: Path) -> None:
    stand = Stand(tmp_path / "actions", "aisem")
    stand.drop(make_action(1, exposure=BRIGHTNESS_TOO, lifetime_s=30.0))
    stand.step()
    stand.raise_abort()
    stand.step(b"ok")
    stand.step()
    assert stand.link.sent == [b"BRT,40.000"]
    stand.step(after_s=30.0)
    assert stand.places() == {"uncertain": [1]}
    assert stand.trail() == [("sending", "BRT,40.000"), ("answer", "reply ok")]


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


def test_an_abort_is_logged_when_it_comes_and_when_it_goes(stand: Stand) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            stand.gate.look()
        stand.raise_abort()
        for _ in range(3):
            stand.gate.look()
        stand.abort.clear()
        stand.gate.look()
        stand.gate.look()
    assert [line["event"] for line in logs] == ["abort.stands", "abort.cleared"]


# Rate limit


@settings(deadline=None)
@given(
    most=st.integers(1, 6),
    pauses_s=st.lists(st.one_of(st.just(0.0), st.floats(0.0, 90.0), st.just(60.0)), max_size=60),
)
def test_no_minute_ever_holds_more_than_the_most(most: int, pauses_s: list[float]) -> None:
    clock = SetClock()
    rate = RateLimit(most, Clock(clock.now, clock.monotonic_s))
    went_s: list[float] = []
    for pause_s in pauses_s:
        clock.seconds += pause_s
        expected = sum(clock.seconds - went < 60.0 for went in went_s) < most
        # Sums of floats may miss the edge by a rounding; there the limit may be the stricter.
        on_edge = any(abs(clock.seconds - went - 60.0) < 1e-6 for went in went_s)
        assert on_edge or (rate.wait_s() == 0.0) == expected
        if rate.wait_s() == 0.0:
            rate.count()
            went_s.append(clock.seconds)
    for start in went_s:
        assert sum(start <= went < start + 60.0 - 1e-6 for went in went_s) <= most


def test_over_the_limit_actions_wait_and_none_is_dropped(tmp_path: Path) -> None:
    stand = Stand(tmp_path / "actions", most_per_minute=2)
    actions = [stand.drop(make_action(seq, lifetime_s=600.0)) for seq in (1, 2, 3, 4)]
    with capture_logs() as logs:
        stand.step()
        for action in actions[:2]:
            stand.step(ack(action), after_s=1.0)
        assert len(stand.link.sent) == 2
        stand.step(after_s=57.9)
        assert len(stand.link.sent) == 2
        stand.step(after_s=0.2)
        assert len(stand.link.sent) == 3
        stand.step(ack(actions[2]), after_s=1.0)
        stand.step(ack(actions[3]))
    assert stand.places() == {"sent": [1, 2, 3, 4]}
    limited = [line for line in logs if line["event"] == "link.rate-limited"]
    assert [line["wait_s"] for line in limited] == [58.0]


def test_sending_again_after_busy_counts_too(tmp_path: Path) -> None:
    stand = Stand(tmp_path / "actions", most_per_minute=2)
    action = stand.drop(make_action(1, lifetime_s=600.0))
    stand.step()
    for _ in range(3):
        stand.step(f"BUSY {action.id}\n".encode())
        stand.step(after_s=10.0)
    assert len(stand.link.sent) == 2


# The instrument profile


@pytest.mark.parametrize("dialect", ["text", "aisem", "dry"])
def test_what_goes_beyond_the_profile_is_refused_with_a_reason(tmp_path: Path, dialect: str) -> None:
    stand = Stand(tmp_path / "actions", dialect, profile=COXEM_EM30)
    stand.drop(make_action(1, wd_mm=40.0001))
    stand.drop(make_action(2, wd_mm=9.0, exposure={Axis.BRIGHTNESS: (-0.001, 0.0), Axis.CONTRAST: (101.0, 0.0)}))
    with capture_logs() as logs:
        stand.step()
        stand.step()
    assert stand.link.sent == []
    assert stand.places() == {"refused": [1, 2]}
    reasons = [line["reason"] for line in logs if line["event"] == "action.refused"]
    assert "WD=40.0001 is beyond what the instrument profile 'coxem-em30' allows, 2 to 40" in reasons[0]
    assert "BRIGHTNESS" in reasons[1]
    assert "CONTRAST" in reasons[1]


@pytest.mark.parametrize("status", list(Status))
def test_the_bounds_themselves_pass(tmp_path: Path, status: Status) -> None:
    stand = Stand(tmp_path / "actions", profile=COXEM_EM30)
    edges = {Axis.BRIGHTNESS: (0.0, 0.0), Axis.CONTRAST: (100.0, 0.0)}
    stand.drop(make_action(1, wd_mm=2.0, exposure=edges, status=status))
    stand.step()
    assert len(stand.link.sent) == 1


def test_a_bound_of_more_decimals_than_an_action_carries_lets_the_clamped_value_pass() -> None:
    profile = InstrumentProfile("odd", {Axis.WD: AxisLimits(5.00004, 12.34567)})
    assert profile.faults({Axis.WD: 12.3457}) == []
    assert profile.faults({Axis.WD: 5.0}) == []
    assert len(profile.faults({Axis.WD: 12.3458})) == 1
    assert len(profile.faults({Axis.WD: float("nan")})) == 1


def test_what_was_sent_before_the_profile_was_narrowed_is_in_doubt_and_not_sent_again(stand: Stand) -> None:
    stand.drop(make_action(1, wd_mm=45.0))
    stand.step()
    stand.link.come_back()
    stand.profile = COXEM_EM30
    stand.start_process()
    stand.step()
    assert len(stand.link.sent) == 1
    assert stand.places() == {"uncertain": [1]}


# Dry run


def test_a_dry_run_files_every_action_and_says_what_it_would_send(tmp_path: Path) -> None:
    stand = Stand(tmp_path / "actions", "dry-aisem")
    stand.drop(make_action(1, exposure=BRIGHTNESS_TOO))
    stand.drop(make_action(2, status=Status.DONE))
    stand.drop(make_action(3, lifetime_s=-1.0))
    with capture_logs() as logs:
        for _ in range(4):
            stand.step()
    assert stand.link.sent == []
    assert stand.places() == {"dry-run": [1, 2], "expired": [3]}
    assert [line["reason"] for line in logs if line["event"] == "action.dry-run"] == [
        "would send BRT,40.000, then WDMAG,9.0000,2000",
        "would send nothing: no scan is asked for",
    ]
    assert stand.trail() == []
    assert stand.desk.newest_acknowledged_seq == 0


def test_a_dry_run_knows_the_abort_and_what_was_sent_before_it(stand: Stand) -> None:
    stand.drop(make_action(1))
    stand.step()
    stand.dialect = "dry"
    stand.start_process()
    stand.drop(make_action(2))
    stand.raise_abort()
    stand.step()
    stand.step()
    assert stand.places() == {"": [2], "uncertain": [1]}
    stand.abort.clear()
    stand.step()
    assert stand.places() == {"dry-run": [2], "uncertain": [1]}


def test_what_aisem_cannot_say_is_refused_in_a_dry_run_as_well(tmp_path: Path) -> None:
    stand = Stand(tmp_path / "actions", "dry-aisem")
    action = make_action(1)
    fields = {name: getattr(action, name) for name in action.__slots__}
    stand.drop(Action(**fields | {"targets": {}, "deltas": {}}))
    stand.step()
    assert stand.places() == {"refused": [1]}


def test_the_stand_in_for_a_link_only_waits() -> None:
    waited: list[float] = []
    link = NoLink(waited.append)
    link.poll()
    link.wait(0.5)
    link.close(b"FINISH")
    assert (waited, link.is_up, link.connection) == ([0.5], False, 0)


# Files that are no actions, and hosts that are no loopback


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_only_a_regular_file_is_read(stand: Stand, kind: str) -> None:
    action = make_action(1)
    path = stand.directory / action.file_name
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(drop_file(stand.directory.parent / "elsewhere", action))
    elif hasattr(os, "mkfifo"):
        os.mkfifo(path)
    else:
        pytest.skip("no named pipes on this system")
    second = stand.drop(make_action(2))
    stand.step()
    stand.step(ack(second))
    assert [b"SEQ=2" in message for message in stand.link.sent] == [True]
    assert os.path.lexists(stand.directory / "refused" / action.file_name)
    if kind == "link":
        assert (stand.directory.parent / "elsewhere" / action.file_name).is_file()


def test_no_more_of_a_file_is_read_than_an_action_may_have(stand: Stand) -> None:
    path = stand.directory / make_action(1).file_name
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a terabyte of holes: reading it whole would end the process
    assert path.stat().st_size > MAX_MESSAGE_BYTES
    stand.step()
    assert stand.places() == {"refused": [1]}


@pytest.mark.skipif(sys.platform == "win32", reason="the hosts file is looked up otherwise")
def test_a_name_that_comes_to_mean_another_computer_is_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def look_up(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(2, 1, 6, "", ("192.0.2.7", port))]

    monkeypatch.setattr("semd.middle_client.link.socket.getaddrinfo", look_up)
    clock = SetClock()
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


def test_a_gate_that_is_shut_counts_nothing(tmp_path: Path) -> None:
    clock = SetClock()
    rate = RateLimit(1, Clock(clock.now, clock.monotonic_s))
    gate = Gate(AbortFile(tmp_path), rate)
    AbortFile(tmp_path).raise_it(clock.now())
    assert not gate.passes()
    assert rate.wait_s() == 0.0
