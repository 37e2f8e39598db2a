"""The `aisem` dialect's rules: sent once, believed when a frame shows it, parked when in doubt."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.middle_client import MiddleClientUnderTest
from harness.outbox import drop_file, make_action

from semd.domain.axes import Axis
from semd.middle_client.framing import Templates
from semd.protocol.action import Status

REPLY = "명령을 수행하였습니다".encode("euc-kr")
ANSWER_TIMEOUT_S, CONFIRM_TIMEOUT_S = 5.0, 20.0
COMMAND_1 = b"WDMAG,9.0000,2000"


class AisemClient(MiddleClientUnderTest):
    """Middle Client of the `aisem` dialect, with frames that the daemon answers."""

    def __init__(self, directory: Path, **other: object) -> None:
        super().__init__(directory, "aisem", forwarder_steps=2, **{"templates": Templates()} | other)  # type: ignore[arg-type]

    def answer_frame(self, seq: int, wd_read_mm: float, **other: object) -> None:
        """The daemon answers a frame on which this working distance was read."""
        drop_file(
            self.directory,
            make_action(seq, wd_mm=round(wd_read_mm + 0.5, 4), delta_mm=0.5, **other),  # type: ignore[arg-type]
        )


@pytest.fixture
def client(tmp_path: Path) -> AisemClient:
    return AisemClient(tmp_path / "actions")


def send_first(client: AisemClient, **other: object) -> None:
    drop_file(client.directory, make_action(1, **other))  # type: ignore[arg-type]
    client.step()
    assert client.link.sent == [COMMAND_1]


def test_reply_and_read_back_confirm_and_only_then_the_next_goes_out(client: AisemClient) -> None:
    send_first(client)
    client.step(REPLY)
    client.step(after_s=1.0)
    assert client.places() == {"": [1]}
    client.answer_frame(2, wd_read_mm=9.002)
    client.step()
    assert client.places() == {"": [2], "sent": [1]}
    assert client.link.sent == [COMMAND_1, b"WDMAG,9.5020,2000"]


def test_a_frame_before_the_reply_waits_for_the_reply(client: AisemClient) -> None:
    send_first(client)
    client.answer_frame(2, wd_read_mm=9.0)
    client.step()
    assert client.places() == {"": [1, 2]}
    client.step(REPLY)
    assert client.places() == {"": [2], "sent": [1]}


def test_another_read_back_is_uncertain_once_no_other_frame_can_be_on_its_way(client: AisemClient) -> None:
    send_first(client)
    client.step(REPLY)
    client.answer_frame(2, wd_read_mm=9.0021)
    client.step()
    client.step(after_s=14.9)  # 15 s while nothing is known of the instrument's speed
    assert client.places() == {"": [1, 2]}
    client.step(after_s=0.1)
    assert client.places() == {"": [2], "uncertain": [1]}
    assert client.link.sent == [COMMAND_1, b"WDMAG,9.5021,2000"]


def test_the_time_that_frames_on_their_way_are_given_is_learned(client: AisemClient) -> None:
    send_first(client)
    client.step(REPLY)
    client.answer_frame(2, wd_read_mm=9.0)
    client.step(after_s=1.5)  # a command takes 1.5 s to its frame's answer
    client.step(REPLY)
    client.answer_frame(3, wd_read_mm=9.0)  # 9.5 was commanded
    client.step()
    client.step(after_s=3.9)
    assert client.places() == {"": [2, 3], "sent": [1]}
    client.step(after_s=0.1)  # twice as long, and a second
    assert client.places() == {"": [3], "sent": [1], "uncertain": [2]}


def test_a_frame_from_before_the_command_confirms_nothing_and_its_action_is_never_sent(
    client: AisemClient,
) -> None:
    send_first(client)
    client.step(REPLY)
    client.answer_frame(2, wd_read_mm=8.7, status=Status.HOLD)
    client.step(after_s=0.5)
    client.answer_frame(3, wd_read_mm=9.0)
    client.step()
    assert client.places() == {"": [3], "expired": [2], "sent": [1]}
    assert client.link.sent == [COMMAND_1, b"WDMAG,9.5000,2000"]


def test_of_several_frames_that_were_answered_the_newest_action_is_sent(client: AisemClient) -> None:
    drop_file(client.directory, make_action(1))
    client.answer_frame(2, wd_read_mm=8.9)
    client.step()
    assert client.link.sent == [b"WDMAG,9.4000,2000"]
    assert client.places() == {"": [2], "expired": [1]}


def test_an_action_that_waits_for_the_link_gives_way_to_a_newer_one(client: AisemClient) -> None:
    client.link.is_up = False
    drop_file(client.directory, make_action(1))
    client.step()
    client.answer_frame(2, wd_read_mm=8.9)
    client.step()
    assert client.places() == {"": [2], "expired": [1]}
    client.link.come_back()
    client.step()
    assert client.link.sent == [b"WDMAG,9.4000,2000"]


def test_any_number_of_frames_from_before_the_command_is_drained(client: AisemClient) -> None:
    send_first(client)
    client.step(REPLY)
    for seq in (2, 3, 4, 5):
        client.answer_frame(seq, wd_read_mm=8.9, status=Status.HOLD)
        client.step(after_s=1.0)
        assert client.places()[""][0] == 1
    client.answer_frame(6, wd_read_mm=9.0)
    client.step()
    assert client.places() == {"": [6], "expired": [2, 3, 4, 5], "sent": [1]}
    assert client.link.sent == [COMMAND_1, b"WDMAG,9.5000,2000"]


def test_frames_that_keep_coming_are_waited_for_until_the_confirmation_timeout(client: AisemClient) -> None:
    send_first(client)
    client.step(REPLY)
    for seq in (2, 3, 4):
        assert client.places()[""][0] == 1
        client.answer_frame(seq, wd_read_mm=8.9)
        client.step(after_s=CONFIRM_TIMEOUT_S / 3 + 0.1)
    assert client.places() == {"": [4], "expired": [2, 3], "uncertain": [1]}


def test_no_frame_is_doubt(client: AisemClient) -> None:
    send_first(client)
    client.step(REPLY)
    client.step(after_s=CONFIRM_TIMEOUT_S)
    assert client.places() == {"": [1]}
    client.step(after_s=0.1)
    assert client.places() == {"uncertain": [1]}
    assert client.link.sent == [COMMAND_1]


def test_actions_from_before_the_command_prove_nothing(client: AisemClient) -> None:
    send_first(client)
    client.answer_frame(2, wd_read_mm=9.0)
    # As if it had lain there when the command was sent.
    client.forwarder._pending.note_sending(COMMAND_1, baseline_seq=2)
    client.step(REPLY)
    assert client.places() == {"": [1, 2]}
    client.answer_frame(3, wd_read_mm=9.0)
    client.step()
    assert client.places() == {"": [3], "expired": [2], "sent": [1]}


@pytest.mark.parametrize("shows", [True, False])
def test_after_a_lost_reply_the_frame_decides_and_nothing_is_sent_again(client: AisemClient, shows: bool) -> None:
    send_first(client)
    client.link.drop("the cable")
    client.step()
    client.link.come_back()
    client.step(after_s=1.0)
    assert client.link.sent == [COMMAND_1]
    client.answer_frame(2, wd_read_mm=9.0 if shows else 8.9)
    client.step()
    client.step(after_s=CONFIRM_TIMEOUT_S)
    assert client.places() == {"": [2], "sent" if shows else "uncertain": [1]}
    assert client.link.sent.count(COMMAND_1) == 1


def test_silence_drops_the_link_so_that_a_late_reply_is_not_taken_for_the_next(client: AisemClient) -> None:
    send_first(client)
    client.step(after_s=ANSWER_TIMEOUT_S + 0.1)
    assert client.link.drops == ["no reply within 5 s"]
    client.link.come_back()
    client.step(after_s=CONFIRM_TIMEOUT_S + 0.1)
    assert client.places() == {"uncertain": [1]}
    assert client.link.sent == [COMMAND_1]


@pytest.mark.parametrize("shows", [True, False])
def test_a_command_in_flight_at_the_start_is_in_doubt(client: AisemClient, shows: bool) -> None:
    send_first(client)
    client.link.come_back()
    client.start_process()
    client.step()
    assert client.link.sent == [COMMAND_1]
    if shows:
        client.answer_frame(2, wd_read_mm=9.0)
        client.step()
        assert client.places() == {"": [2], "sent": [1]}
    else:
        client.step(after_s=CONFIRM_TIMEOUT_S + 0.1)
        assert client.places() == {"uncertain": [1]}
    assert client.link.sent.count(COMMAND_1) == 1


def test_after_a_restart_the_evidence_must_still_be_younger_than_the_command(client: AisemClient) -> None:
    send_first(client)
    client.answer_frame(2, wd_read_mm=9.0)
    client.forwarder._pending.note_sending(COMMAND_1, baseline_seq=2)
    client.start_process()
    client.step()
    assert client.places() == {"": [1, 2]}


@pytest.mark.parametrize("status", [Status.DONE, Status.GIVE_UP])
def test_what_asks_for_no_scan_sends_nothing(client: AisemClient, status: Status) -> None:
    drop_file(client.directory, make_action(1, status=status, delta_mm=0.0))
    client.step()
    assert client.link.sent == []
    assert client.places() == {"sent": [1]}


def test_nothing_is_sent_without_a_link_or_after_expiry(client: AisemClient) -> None:
    client.link.is_up = False
    drop_file(client.directory, make_action(1, lifetime_s=5.0))
    client.step()
    assert client.places() == {"": [1]}
    client.clock.seconds = 5.0
    client.link.come_back()
    client.step()
    assert client.link.sent == []
    assert client.places() == {"expired": [1]}


def test_exposure_commands_go_one_by_one_and_are_read_back_too(tmp_path: Path) -> None:
    client = AisemClient(tmp_path / "actions", templates=Templates("BRT,{value}", "CNT,{value}"))
    exposure = {Axis.BRIGHTNESS: (40.0, 3.0), Axis.CONTRAST: (60.0, 0.0)}
    drop_file(client.directory, make_action(1, exposure=exposure))
    client.step()
    assert client.link.sent == [b"BRT,40.000"]
    client.step(REPLY)
    assert client.link.sent == [b"BRT,40.000", COMMAND_1]
    client.step(REPLY)
    # Contrast was not commanded, so its drift proves nothing; brightness did not move.
    read = {Axis.BRIGHTNESS: (37.0, 0.0), Axis.CONTRAST: (70.0, 0.0)}
    client.answer_frame(2, wd_read_mm=9.0, exposure=read)
    client.step()
    client.step(after_s=CONFIRM_TIMEOUT_S)
    assert client.places() == {"": [2], "uncertain": [1]}


def test_a_link_lost_between_two_commands_goes_on_with_the_second(tmp_path: Path) -> None:
    client = AisemClient(tmp_path / "actions", templates=Templates(brightness="BRT,{value}"))
    drop_file(client.directory, make_action(1, exposure={Axis.BRIGHTNESS: (40.0, 3.0)}))
    client.step()
    client.link.inbox.append(REPLY)
    client.link.breaks_on_send = True
    client.step()
    assert client.link.drops == ["sending failed"]
    client.link.breaks_on_send = False
    client.link.come_back()
    client.answer_frame(2, wd_read_mm=9.0)
    client.step()
    # The second may have arrived before the link broke: the frame decides, and it is not sent again.
    assert COMMAND_1 not in client.link.sent
    assert client.places()["sent"] == [1]


def test_a_link_that_is_down_between_two_commands_is_waited_for(tmp_path: Path) -> None:
    client = AisemClient(tmp_path / "actions", templates=Templates(brightness="BRT,{value}"))
    drop_file(client.directory, make_action(1, exposure={Axis.BRIGHTNESS: (40.0, 3.0)}))
    client.step()
    received = client.link.receive

    def receive_and_lose() -> bytes:
        data = received()
        client.link.is_up = client.link.is_up and not data
        return data

    client.link.receive = receive_and_lose  # type: ignore[method-assign]
    client.step(REPLY)
    assert client.link.sent == [b"BRT,40.000"]
    client.link.come_back()
    client.step()
    assert client.link.sent == [b"BRT,40.000", COMMAND_1]


def test_a_reply_out_of_turn_is_ignored(client: AisemClient) -> None:
    client.step(b"Welcome")
    send_first(client)
    assert client.places() == {"": [1]}


def test_an_action_that_cannot_be_said_is_refused(client: AisemClient) -> None:
    action = make_action(1)
    fields = {name: getattr(action, name) for name in action.__slots__}
    drop_file(client.directory, type(action)(**fields | {"targets": {}, "deltas": {}}))
    client.step()
    assert client.places() == {"refused": [1]}
