"""The action file against the protocol, section 2: written out by hand, not by the code under test."""

from __future__ import annotations

import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semd.domain.axes import Axis
from semd.errors import ActionTextError
from semd.protocol.action import Action, Status, decode_action, encode_action, parse_file_name

ISSUED = datetime(2020, 2, 10, 21, 47, 54, 123_000, tzinfo=UTC)
ACTION = Action(
    id="0123456789abcdef0123456789abcdef",
    seq=7,
    frame="ResponseImage_20200210,214754",
    status=Status.ADJUST,
    magnification=2000.0,
    targets={Axis.WD: 9.51234, Axis.BRIGHTNESS: 50.0, Axis.CONTRAST: 41.2345},
    deltas={Axis.WD: -0.25, Axis.BRIGHTNESS: 1.5, Axis.CONTRAST: -0.0},
    score=3.25,
    reward=None,
    step=0,
    issued=ISSUED,
    expires=ISSUED + timedelta(seconds=60),
)
BODY = """\
SEMD-ACTION=1
ID=0123456789abcdef0123456789abcdef
SEQ=7
FRAME=ResponseImage_20200210,214754
STATUS=ADJUST
MAG=2000
WD=9.5123
BRIGHTNESS=50.000
CONTRAST=41.234
DELTA-WD=-0.2500
DELTA-BRIGHTNESS=1.500
DELTA-CONTRAST=0.000
SCORE=3.2500
REWARD=
STEP=0
ISSUED=2020-02-10T21:47:54.123Z
EXPIRES=2020-02-10T21:48:54.123Z
"""


def with_crc(body: str) -> bytes:
    data = body.encode()
    return data + f"CRC32={zlib.crc32(data):08x}\n".encode()


def test_text_is_the_protocols() -> None:
    assert encode_action(ACTION) == with_crc(BODY)


def test_axes_that_are_not_controlled_have_no_lines() -> None:
    action = replace(ACTION, targets={Axis.WD: 9.5}, deltas={Axis.WD: 0.1}, reward=-1.5)
    text = encode_action(action).decode()
    assert "BRIGHTNESS" not in text
    assert "CONTRAST" not in text
    assert "\nMAG=2000\nWD=9.5000\nDELTA-WD=0.1000\nSCORE=3.2500\nREWARD=-1.5000\n" in text


def test_times_are_written_in_utc() -> None:
    seoul = ISSUED.astimezone(timezone(timedelta(hours=9)))
    assert encode_action(replace(ACTION, issued=seoul)) == encode_action(ACTION)


def test_magnification_is_written_as_read() -> None:
    assert b"\nMAG=36840\n" in encode_action(replace(ACTION, magnification=36840.0))
    assert b"\nMAG=1234.5\n" in encode_action(replace(ACTION, magnification=1234.5))


def test_file_name() -> None:
    assert ACTION.file_name == "action-00000007-0123456789abcdef0123456789abcdef.txt"
    assert parse_file_name(ACTION.file_name) == (7, ACTION.id)
    for other in (".action-00000007-0123456789abcdef0123456789abcdef.txt", "action-7-00.txt", "x.txt"):
        assert parse_file_name(other) is None


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (BODY.replace("SEQ=7\n", ""), "fields"),
        (BODY.replace("SEQ=7\nFRAME=ResponseImage_20200210,214754\n", "FRAME=x\nSEQ=7\n"), "fields"),
        (BODY.replace("WD=9.5123\n", "WD=nan\n", 1), "finite"),
        (BODY.replace("STATUS=ADJUST", "STATUS=JUMP"), "malformed"),
        (BODY.replace("ID=0123", "ID=012G"), "ID"),
        (BODY.replace("SEMD-ACTION=1", "SEMD-ACTION=2"), "version"),
        (BODY.replace("21:48:54.123Z", "21:48:54Z"), "malformed"),
        (BODY.replace("SEQ=7", "SEQ=-7"), "malformed"),
        (BODY + "EXTRA=1\n", "fields"),
        (BODY.replace("DELTA-BRIGHTNESS=1.500\n", ""), "fields"),
    ],
)
def test_malformed_text_is_refused(body: str, word: str) -> None:
    with pytest.raises(ActionTextError, match=word):
        decode_action(with_crc(body))


@pytest.mark.parametrize("cut", [1, 5, 16, 17, 100, 400])
def test_half_a_file_is_refused(cut: int) -> None:
    with pytest.raises(ActionTextError):
        decode_action(encode_action(ACTION)[:-cut])


def test_a_flipped_bit_is_refused() -> None:
    data = bytearray(encode_action(ACTION))
    data[data.index(b"WD=9") + 3] ^= 1
    with pytest.raises(ActionTextError, match="CRC32"):
        decode_action(bytes(data))


def test_a_message_has_at_most_4096_bytes() -> None:
    assert len(encode_action(replace(ACTION, frame="x" * 3000))) < 4096
    with pytest.raises(ActionTextError, match="4096"):
        encode_action(replace(ACTION, frame="x" * 4000))
    with pytest.raises(ActionTextError, match="4096"):
        decode_action(b"x" * 4097)


@pytest.mark.parametrize("stem", ["a\nSTATUS=DONE", "a\rb", "a\0b", "a\x85b", "a\u2028b", "\udcff"])
def test_hostile_stems_are_refused(stem: str) -> None:
    with pytest.raises(ActionTextError):
        encode_action(replace(ACTION, frame=stem))


@given(
    wd=st.floats(0, 100),
    delta=st.floats(-50, 50),
    score=st.floats(0, 10),
    reward=st.none() | st.floats(-100, 100),
    seq=st.integers(0, 10**9),
    status=st.sampled_from(Status),
    magnification=st.floats(1, 1e6),
    frame=st.text(min_size=1, max_size=60).filter(str.isprintable),
)
def test_what_is_written_is_read_back(
    wd: float,
    delta: float,
    score: float,
    reward: float | None,
    seq: int,
    status: Status,
    magnification: float,
    frame: str,
) -> None:
    action = replace(
        ACTION,
        targets={Axis.WD: wd},
        deltas={Axis.WD: delta},
        score=score,
        reward=reward,
        seq=seq,
        status=status,
        magnification=magnification,
        frame=frame,
    )
    read = decode_action(encode_action(action))
    assert read.targets[Axis.WD] == pytest.approx(wd, abs=0.5001e-4)
    assert read.deltas[Axis.WD] == pytest.approx(delta, abs=0.5001e-4)
    assert read.magnification == magnification
    assert (read.seq, read.status, read.frame, read.id) == (seq, status, frame, action.id)
    assert read.issued == ISSUED
    assert encode_action(read) == encode_action(action)


@given(st.binary(max_size=600))
def test_garbage_never_gets_through(data: bytes) -> None:
    with pytest.raises(ActionTextError):
        decode_action(data)
