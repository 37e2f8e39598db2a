"""Bytes on the wire, in both dialects."""

from __future__ import annotations

import pytest
from harness.outbox import make_action

from semd.domain.axes import Axis
from semd.errors import LinkError
from semd.middle_client.framing import (
    MAX_LINE_BYTES,
    SemReply,
    SemReplyReader,
    Templates,
    Verdict,
    aisem_commands,
    aisem_reply,
    parse_answer,
    text_message,
)
from semd.protocol.action import Status, encode_action

ID = "0123456789abcdef0123456789abcdef"
EXPOSURE = {Axis.BRIGHTNESS: (40.0, 2.5), Axis.CONTRAST: (60.0, 0.0)}
TEMPLATES = Templates(brightness="BRT,{value}", contrast="CNT,{value}")


def test_a_message_is_the_file_and_one_empty_line() -> None:
    data = encode_action(make_action())
    message = text_message(data)
    assert message == data + b"\n"
    assert message.endswith(b"\n\n")
    assert message.count(b"\n\n") == 1


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (f"ACK {ID}", SemReply(Verdict.ACK, ID, "")),
        (f"BUSY {ID}\r", SemReply(Verdict.BUSY, ID, "")),
        (f"NAK {ID} stage is locked ", SemReply(Verdict.NAK, ID, "stage is locked")),
        (f"NAK {ID}", SemReply(Verdict.NAK, ID, "")),
        (f"ACK {ID.upper()}", SemReply(Verdict.ACK, ID, "")),
        (f"NAK {ID} 잠김", SemReply(Verdict.NAK, ID, "잠김")),
    ],
)
def test_answers_are_read(line: str, answer: SemReply) -> None:
    assert parse_answer(line.encode()) == answer


@pytest.mark.parametrize(
    "line", [b"HELLO", b"ACK", b"ACK 123", f"ACKNOWLEDGED {ID}".encode(), b"\xff\xfe\x00", b"x" * 5000]
)
def test_garbage_is_a_link_error(line: bytes) -> None:
    with pytest.raises(LinkError, match="no answer"):
        parse_answer(line)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_answers_are_cut_from_any_pieces(size: int) -> None:
    stream = f"ACK {ID}\r\n\r\nBUSY {ID}\nNAK {ID} no\nACK 01".encode()
    reader = SemReplyReader()
    found = [answer for begin in range(0, len(stream), size) for answer in reader.feed(stream[begin : begin + size])]
    assert [answer.verdict for answer in found] == [Verdict.ACK, Verdict.BUSY, Verdict.NAK]


def test_an_endless_line_is_a_link_error() -> None:
    reader = SemReplyReader()
    reader.feed(b"A" * MAX_LINE_BYTES)
    with pytest.raises(LinkError, match="without an end of line"):
        reader.feed(b"A")


@pytest.mark.parametrize(
    ("status", "delta_mm", "commands"),
    [
        (Status.ADJUST, 0.1, (b"WDMAG,9.0000,2000",)),
        (Status.ADJUST, 0.0, (b"WDMAG,9.0000,2000",)),
        (Status.HOLD, 0.0, (b"WDMAG,9.0000,2000",)),
        (Status.DONE, 0.0, ()),
        (Status.GIVE_UP, 0.0, ()),
        (Status.GIVE_UP, -0.2, (b"WDMAG,9.0000,2000",)),
    ],
)
def test_what_each_status_sends_over_aisem(status: Status, delta_mm: float, commands: tuple[bytes, ...]) -> None:
    assert aisem_commands(make_action(status=status, delta_mm=delta_mm), Templates()) == commands


def test_exposure_goes_by_templates_before_the_command_that_scans() -> None:
    action = make_action(exposure=EXPOSURE)
    assert aisem_commands(action, TEMPLATES) == (b"BRT,40.000", b"WDMAG,9.0000,2000")
    assert aisem_commands(action, Templates()) == (b"WDMAG,9.0000,2000",)
    give_up = make_action(status=Status.GIVE_UP, delta_mm=0.0, exposure=EXPOSURE)
    assert aisem_commands(give_up, TEMPLATES) == (b"BRT,40.000", b"WDMAG,9.0000,2000")
    assert aisem_commands(give_up, Templates()) == ()


def test_an_action_without_working_distance_cannot_ask_for_a_scan() -> None:
    action = make_action()
    without = type(action)(
        **{field: getattr(action, field) for field in action.__slots__} | {"targets": {}, "deltas": {}}
    )
    with pytest.raises(LinkError, match="no WD"):
        aisem_commands(without, Templates())


def test_replies_are_korean() -> None:
    assert aisem_reply("명령을 수행하였습니다\r\n".encode("euc-kr")) == "명령을 수행하였습니다"
    assert aisem_reply(b"\xff") != ""
