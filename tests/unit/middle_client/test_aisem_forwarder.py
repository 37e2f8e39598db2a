"""The `aisem` dialect's rules: sent once, believed when a frame shows it, parked when in doubt."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from harness.outbox import ListLink, SetClock, drop_file, make_action, make_desk, make_gate, places

from semd.domain.axes import Axis
from semd.middle_client.aisem_forwarder import AisemForwarder
from semd.middle_client.clock import Clock
from semd.middle_client.framing import Templates
from semd.protocol.action import Status

REPLY = "명령을 수행하였습니다".encode("euc-kr")
ANSWER_TIMEOUT_S, CONFIRM_TIMEOUT_S = 5.0, 20.0
COMMAND_1 = b"WDMAG,9.0000,2000"


@dataclass
class Stand:
    directory: Path
    link: ListLink = field(default_factory=ListLink)
    clock: SetClock = field(default_factory=SetClock)
    templates: Templates = field(default_factory=Templates)

    def __post_init__(self) -> None:
        self.directory.mkdir(exist_ok=True)
        self.start_process()

    def start_process(self) -> None:
        """A new process: nothing in memory."""
        clock = Clock(self.clock.now, self.clock.monotonic_s)
        self.forwarder = AisemForwarder(
            make_desk(self.directory, clock),
            self.link,
            clock,
            gate=make_gate(self.directory, clock),
            templates=self.templates,
            tolerances={Axis.WD: 0.002, Axis.BRIGHTNESS: 0.6, Axis.CONTRAST: 0.6},
            answer_timeout_s=ANSWER_TIMEOUT_S,
            confirm_timeout_s=CONFIRM_TIMEOUT_S,
        )

    def step(self, *replies: bytes, after_s: float = 0.0) -> None:
        self.clock.seconds += after_s
        self.link.inbox += replies
        self.forwarder.step()
        self.forwarder.step()

    def answer_frame(self, seq: int, wd_read_mm: float, **other: object) -> None:
        """The daemon answers a frame on which this working distance was read."""
        drop_file(
            self.directory,
            make_action(seq, wd_mm=round(wd_read_mm + 0.5, 4), delta_mm=0.5, **other),  # type: ignore[arg-type]
        )

    def places(self) -> dict[str, list[int]]:
        return places(self.directory)


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path / "actions")


def send_first(stand: Stand, **other: object) -> None:
    drop_file(stand.directory, make_action(1, **other))  # type: ignore[arg-type]
    stand.step()
    assert stand.link.sent == [COMMAND_1]


def test_reply_and_read_back_confirm_and_only_then_the_next_goes_out(stand: Stand) -> None:
    send_first(stand)
    stand.step(REPLY)
    stand.step(after_s=1.0)
    assert stand.places() == {"": [1]}
    stand.answer_frame(2, wd_read_mm=9.002)
    stand.step()
    assert stand.places() == {"": [2], "sent": [1]}
    assert stand.link.sent == [COMMAND_1, b"WDMAG,9.5020,2000"]


def test_a_frame_before_the_reply_waits_for_the_reply(stand: Stand) -> None:
    send_first(stand)
    stand.answer_frame(2, wd_read_mm=9.0)
    stand.step()
    assert stand.places() == {"": [1, 2]}
    stand.step(REPLY)
    assert stand.places() == {"": [2], "sent": [1]}


def test_another_read_back_is_uncertain_once_no_other_frame_can_be_on_its_way(stand: Stand) -> None:
    send_first(stand)
    stand.step(REPLY)
    stand.answer_frame(2, wd_read_mm=9.0021)
    stand.step()
    stand.step(after_s=14.9)  # 15 s while nothing is known of the instrument's speed
    assert stand.places() == {"": [1, 2]}
    stand.step(after_s=0.1)
    assert stand.places() == {"": [2], "uncertain": [1]}
    assert stand.link.sent == [COMMAND_1, b"WDMAG,9.5021,2000"]


def test_the_time_that_frames_on_their_way_are_given_is_learned(stand: Stand) -> None:
    send_first(stand)
    stand.step(REPLY)
    stand.answer_frame(2, wd_read_mm=9.0)
    stand.step(after_s=1.5)  # a command takes 1.5 s to its frame's answer
    stand.step(REPLY)
    stand.answer_frame(3, wd_read_mm=9.0)  # 9.5 was commanded
    stand.step()
    stand.step(after_s=3.9)
    assert stand.places() == {"": [2, 3], "sent": [1]}
    stand.step(after_s=0.1)  # twice as long, and a second
    assert stand.places() == {"": [3], "sent": [1], "uncertain": [2]}


def test_a_frame_from_before_the_command_confirms_nothing_and_its_action_is_never_sent(stand: Stand) -> None:
    send_first(stand)
    stand.step(REPLY)
    stand.answer_frame(2, wd_read_mm=8.7, status=Status.HOLD)
    stand.step(after_s=0.5)
    stand.answer_frame(3, wd_read_mm=9.0)
    stand.step()
    assert stand.places() == {"": [3], "expired": [2], "sent": [1]}
    assert stand.link.sent == [COMMAND_1, b"WDMAG,9.5000,2000"]


def test_of_several_frames_that_were_answered_the_newest_action_is_sent(stand: Stand) -> None:
    drop_file(stand.directory, make_action(1))
    stand.answer_frame(2, wd_read_mm=8.9)
    stand.step()
    assert stand.link.sent == [b"WDMAG,9.4000,2000"]
    assert stand.places() == {"": [2], "expired": [1]}


def test_an_action_that_waits_for_the_link_gives_way_to_a_newer_one(stand: Stand) -> None:
    stand.link.is_up = False
    drop_file(stand.directory, make_action(1))
    stand.step()
    stand.answer_frame(2, wd_read_mm=8.9)
    stand.step()
    assert stand.places() == {"": [2], "expired": [1]}
    stand.link.come_back()
    stand.step()
    assert stand.link.sent == [b"WDMAG,9.4000,2000"]


def test_the_third_frame_that_shows_something_else_is_believed(stand: Stand) -> None:
    send_first(stand)
    stand.step(REPLY)
    for seq in (2, 3, 4):
        assert stand.places()[""][0] == 1
        stand.answer_frame(seq, wd_read_mm=8.9)
        stand.step()
    assert stand.places() == {"": [4], "expired": [2, 3], "uncertain": [1]}


def test_no_frame_is_doubt(stand: Stand) -> None:
    send_first(stand)
    stand.step(REPLY)
    stand.step(after_s=CONFIRM_TIMEOUT_S)
    assert stand.places() == {"": [1]}
    stand.step(after_s=0.1)
    assert stand.places() == {"uncertain": [1]}
    assert stand.link.sent == [COMMAND_1]


def test_actions_from_before_the_command_prove_nothing(stand: Stand) -> None:
    send_first(stand)
    stand.answer_frame(2, wd_read_mm=9.0)
    # As if it had lain there when the command was sent.
    stand.forwarder._desk.note_sending(COMMAND_1, baseline_seq=2)
    stand.step(REPLY)
    assert stand.places() == {"": [1, 2]}
    stand.answer_frame(3, wd_read_mm=9.0)
    stand.step()
    assert stand.places() == {"": [3], "expired": [2], "sent": [1]}


@pytest.mark.parametrize("shows", [True, False])
def test_after_a_lost_reply_the_frame_decides_and_nothing_is_sent_again(stand: Stand, shows: bool) -> None:
    send_first(stand)
    stand.link.drop("the cable")
    stand.step()
    stand.link.come_back()
    stand.step(after_s=1.0)
    assert stand.link.sent == [COMMAND_1]
    stand.answer_frame(2, wd_read_mm=9.0 if shows else 8.9)
    stand.step()
    stand.step(after_s=CONFIRM_TIMEOUT_S)
    assert stand.places() == {"": [2], "sent" if shows else "uncertain": [1]}
    assert stand.link.sent.count(COMMAND_1) == 1


def test_silence_drops_the_link_so_that_a_late_reply_is_not_taken_for_the_next(stand: Stand) -> None:
    send_first(stand)
    stand.step(after_s=ANSWER_TIMEOUT_S + 0.1)
    assert stand.link.drops == ["no reply within 5 s"]
    stand.link.come_back()
    stand.step(after_s=CONFIRM_TIMEOUT_S + 0.1)
    assert stand.places() == {"uncertain": [1]}
    assert stand.link.sent == [COMMAND_1]


@pytest.mark.parametrize("shows", [True, False])
def test_a_command_in_flight_at_the_start_is_in_doubt(stand: Stand, shows: bool) -> None:
    send_first(stand)
    stand.link.come_back()
    stand.start_process()
    stand.step()
    assert stand.link.sent == [COMMAND_1]
    if shows:
        stand.answer_frame(2, wd_read_mm=9.0)
        stand.step()
        assert stand.places() == {"": [2], "sent": [1]}
    else:
        stand.step(after_s=CONFIRM_TIMEOUT_S + 0.1)
        assert stand.places() == {"uncertain": [1]}
    assert stand.link.sent.count(COMMAND_1) == 1


def test_after_a_restart_the_evidence_must_still_be_younger_than_the_command(stand: Stand) -> None:
    send_first(stand)
    stand.answer_frame(2, wd_read_mm=9.0)
    stand.forwarder._desk.note_sending(COMMAND_1, baseline_seq=2)
    stand.start_process()
    stand.step()
    assert stand.places() == {"": [1, 2]}


@pytest.mark.parametrize("status", [Status.DONE, Status.GIVE_UP])
def test_what_asks_for_no_scan_sends_nothing(stand: Stand, status: Status) -> None:
    drop_file(stand.directory, make_action(1, status=status, delta_mm=0.0))
    stand.step()
    assert stand.link.sent == []
    assert stand.places() == {"sent": [1]}


def test_nothing_is_sent_without_a_link_or_after_expiry(stand: Stand) -> None:
    stand.link.is_up = False
    drop_file(stand.directory, make_action(1, lifetime_s=5.0))
    stand.step()
    assert stand.places() == {"": [1]}
    stand.clock.seconds = 5.0
    stand.link.come_back()
    stand.step()
    assert stand.link.sent == []
    assert stand.places() == {"expired": [1]}


def test_exposure_commands_go_one_by_one_and_are_read_back_too(tmp_path: Path) -> None:
    stand = Stand(tmp_path / "actions", templates=Templates("BRT,{value}", "CNT,{value}"))
    exposure = {Axis.BRIGHTNESS: (40.0, 3.0), Axis.CONTRAST: (60.0, 0.0)}
    drop_file(stand.directory, make_action(1, exposure=exposure))
    stand.step()
    assert stand.link.sent == [b"BRT,40.000"]
    stand.step(REPLY)
    assert stand.link.sent == [b"BRT,40.000", COMMAND_1]
    stand.step(REPLY)
    # Contrast was not commanded, so its drift proves nothing; brightness did not move.
    read = {Axis.BRIGHTNESS: (37.0, 0.0), Axis.CONTRAST: (70.0, 0.0)}
    stand.answer_frame(2, wd_read_mm=9.0, exposure=read)
    stand.step()
    stand.step(after_s=CONFIRM_TIMEOUT_S)
    assert stand.places() == {"": [2], "uncertain": [1]}


def test_a_link_lost_between_two_commands_goes_on_with_the_second(tmp_path: Path) -> None:
    stand = Stand(tmp_path / "actions", templates=Templates(brightness="BRT,{value}"))
    drop_file(stand.directory, make_action(1, exposure={Axis.BRIGHTNESS: (40.0, 3.0)}))
    stand.step()
    stand.link.inbox.append(REPLY)
    stand.link.breaks_on_send = True
    stand.step()
    assert stand.link.drops == ["sending failed"]
    stand.link.breaks_on_send = False
    stand.link.come_back()
    stand.answer_frame(2, wd_read_mm=9.0)
    stand.step()
    # The second may have arrived before the link broke: the frame decides, and it is not sent again.
    assert COMMAND_1 not in stand.link.sent
    assert stand.places()["sent"] == [1]


def test_a_link_that_is_down_between_two_commands_is_waited_for(tmp_path: Path) -> None:
    stand = Stand(tmp_path / "actions", templates=Templates(brightness="BRT,{value}"))
    drop_file(stand.directory, make_action(1, exposure={Axis.BRIGHTNESS: (40.0, 3.0)}))
    stand.step()
    received = stand.link.receive

    def receive_and_lose() -> bytes:
        data = received()
        stand.link.is_up = stand.link.is_up and not data
        return data

    stand.link.receive = receive_and_lose  # type: ignore[method-assign]
    stand.step(REPLY)
    assert stand.link.sent == [b"BRT,40.000"]
    stand.link.come_back()
    stand.step()
    assert stand.link.sent == [b"BRT,40.000", COMMAND_1]


def test_a_reply_out_of_turn_is_ignored(stand: Stand) -> None:
    stand.step(b"Welcome")
    send_first(stand)
    assert stand.places() == {"": [1]}


def test_an_action_that_cannot_be_said_is_refused(stand: Stand) -> None:
    action = make_action(1)
    fields = {name: getattr(action, name) for name in action.__slots__}
    drop_file(stand.directory, type(action)(**fields | {"targets": {}, "deltas": {}}))
    stand.step()
    assert stand.places() == {"refused": [1]}
