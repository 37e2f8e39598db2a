"""The action record and its text file (protocol, section 2)."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from semd.domain.axes import AXES, Axis
from semd.errors import ActionTextError

MAX_MESSAGE_BYTES = 4096
_DECIMALS = {Axis.WD: 4, Axis.BRIGHTNESS: 3, Axis.CONTRAST: 3}
_FILE_NAME = re.compile(r"action-(\d{8,})-([0-9a-f]{32})\.txt", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


class Status(StrEnum):
    """Request to the microscope (protocol, section 2)."""

    ADJUST = "ADJUST"
    HOLD = "HOLD"
    DONE = "DONE"
    GIVE_UP = "GIVE-UP"

    @property
    def is_terminal(self) -> bool:
        """True where the run ends and no scan is asked for."""
        return self in (Status.DONE, Status.GIVE_UP)


@dataclass(frozen=True, slots=True)
class Action:
    """One answer to one frame.

    Attributes:
        id: 32 hex digits, a function of the frame and the model.
        seq: strictly increasing over the life of an installation.
        frame: stem of the frame answered.
        status: what to do.
        magnification: as read.
        targets: absolute targets of the controlled axes: mm for WD, the instrument's scale otherwise.
        deltas: signed change of each controlled axis.
        score: 0..10.
        reward: equation (6), or None for the first frame of a run.
        step: 0.. within the run.
        issued: UTC.
        expires: UTC; the action is never sent later.
    """

    id: str
    seq: int
    frame: str
    status: Status
    magnification: float
    targets: Mapping[Axis, float]
    deltas: Mapping[Axis, float]
    score: float
    reward: float | None
    step: int
    issued: datetime
    expires: datetime

    @property
    def file_name(self) -> str:
        """`action-<SEQ, 8 digits>-<ID>.txt`."""
        return f"action-{self.seq:08d}-{self.id}.txt"


def round_target(axis: Axis, value: float) -> float:
    """Round to the decimals the action file carries: 4 for mm, 3 otherwise."""
    return round(value, _DECIMALS[axis])


def parse_file_name(name: str) -> tuple[int, str] | None:
    """Return (SEQ, ID) of an action file's name, or None for any other file."""
    match = _FILE_NAME.fullmatch(name)
    return (int(match[1]), match[2]) if match else None


def encode_action(action: Action) -> bytes:
    """Write the action's text: UTF-8, LF, the protocol's order, CRC32 last.

    Raises:
        ActionTextError: the frame's stem cannot stand in one line, or the text exceeds 4096 bytes.
    """
    if not action.frame.isprintable():
        raise ActionTextError(f"FRAME={action.frame!r} holds characters that cannot stand in one line")
    lines = [
        "SEMD-ACTION=1",
        f"ID={action.id}",
        f"SEQ={action.seq}",
        f"FRAME={action.frame}",
        f"STATUS={action.status}",
        f"MAG={_shortest(action.magnification)}",
    ]
    axes = [axis for axis in AXES if axis in action.targets]
    lines += [f"{axis.upper()}={_fixed(axis, action.targets[axis])}" for axis in axes]
    lines += [f"DELTA-{axis.upper()}={_fixed(axis, action.deltas[axis])}" for axis in axes]
    lines += [
        f"SCORE={action.score:.4f}",
        "REWARD=" + ("" if action.reward is None else f"{action.reward:.4f}"),
        f"STEP={action.step}",
        f"ISSUED={_format_time(action.issued)}",
        f"EXPIRES={_format_time(action.expires)}",
    ]
    try:
        body = ("\n".join(lines) + "\n").encode()
    except UnicodeEncodeError as error:  # a stem whose bytes were not UTF-8 on disk
        raise ActionTextError(f"FRAME={action.frame!r} cannot be written as UTF-8") from error
    message = body + f"CRC32={zlib.crc32(body):08x}\n".encode()
    if len(message) > MAX_MESSAGE_BYTES:
        raise ActionTextError(f"the action takes {len(message)} bytes; at most {MAX_MESSAGE_BYTES} can be sent")
    return message


def decode_action(data: bytes) -> Action:
    """Read an action's text back, strictly.

    Raises:
        ActionTextError: too long, not UTF-8, a field missing, out of order or malformed, wrong CRC32.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise ActionTextError(f"{len(data)} bytes; an action has at most {MAX_MESSAGE_BYTES}")
    head, mark, tail = data.rpartition(b"CRC32=")
    if not mark or not re.fullmatch(rb"[0-9a-fA-F]{8}\n", tail):
        raise ActionTextError("the last line is not CRC32=<8 hex digits>")
    if zlib.crc32(head) != int(tail, 16):
        raise ActionTextError(f"CRC32 is {zlib.crc32(head):08x}, the text says {tail[:8].decode()}")
    try:
        lines = head.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ActionTextError("the action is not UTF-8") from error
    fields = dict(line.partition("=")[::2] for line in lines)
    axes = tuple(axis for axis in AXES if axis.upper() in fields)
    expected = ["SEMD-ACTION", "ID", "SEQ", "FRAME", "STATUS", "MAG"]
    expected += [axis.upper() for axis in axes] + [f"DELTA-{axis.upper()}" for axis in axes]
    expected += ["SCORE", "REWARD", "STEP", "ISSUED", "EXPIRES"]
    if [line.partition("=")[0] for line in lines] != expected:
        raise ActionTextError("the fields are not those of the protocol in its order")
    return _from_fields(fields, axes)


def _from_fields(fields: dict[str, str], axes: tuple[Axis, ...]) -> Action:
    if fields["SEMD-ACTION"] != "1":
        raise ActionTextError(f"SEMD-ACTION={fields['SEMD-ACTION']!r}; this program knows version 1")
    if not re.fullmatch(r"[0-9a-f]{32}", fields["ID"], re.ASCII):
        raise ActionTextError(f"ID={fields['ID']!r} is not 32 hex digits")
    try:
        return Action(
            id=fields["ID"],
            seq=_whole(fields["SEQ"]),
            frame=fields["FRAME"],
            status=Status(fields["STATUS"]),
            magnification=_finite(fields["MAG"]),
            targets={axis: _finite(fields[axis.upper()]) for axis in axes},
            deltas={axis: _finite(fields[f"DELTA-{axis.upper()}"]) for axis in axes},
            score=_finite(fields["SCORE"]),
            reward=_finite(fields["REWARD"]) if fields["REWARD"] else None,
            step=_whole(fields["STEP"]),
            issued=_parse_time(fields["ISSUED"]),
            expires=_parse_time(fields["EXPIRES"]),
        )
    except ValueError as error:
        raise ActionTextError(f"a field is malformed: {error}") from error


def _fixed(axis: Axis, value: float) -> str:
    text = f"{value:.{_DECIMALS[axis]}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _shortest(value: float) -> str:
    return repr(int(value)) if value == int(value) else repr(value)


def _whole(text: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not finite")
    return value


def _format_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _parse_time(text: str) -> datetime:
    if not _TIME.fullmatch(text):
        raise ValueError(f"{text!r} is not an RFC 3339 time in UTC with milliseconds")
    return datetime.fromisoformat(text)
