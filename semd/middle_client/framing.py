"""Wire format of both dialects, without I/O (protocol, section 3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from semd.domain.axes import Axis
from semd.errors import LinkError
from semd.protocol.action import Action, Status

MAX_LINE_BYTES = 1024
"""Longest accepted reply line. A longer one is not a reply of this protocol."""

AISEM_HELLO = (b"Connected.", b"COMM.START.", b"READY")
"""Messages written on connecting, each in a separate write."""

AISEM_GOODBYE = b"FINISH"

_ANSWER = re.compile(r"(ACK|BUSY|NAK) ([0-9A-Fa-f]{32})(?: (.*))?")


class Verdict(StrEnum):
    """The SEM's answer to an action."""

    ACK = "ACK"
    BUSY = "BUSY"
    NAK = "NAK"


@dataclass(frozen=True, slots=True)
class SemReply:
    """One reply line of the `text` dialect.

    Attributes:
        verdict: accepted (ACK), to be sent again later (BUSY), or refused (NAK).
        id: id of the action, in lower case.
        reason: reason of a NAK, otherwise empty.
    """

    verdict: Verdict
    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Templates:
    """Templates of the `aisem` commands that are not publicly documented; each contains `{value}` or is None."""

    brightness: str | None = None
    contrast: str | None = None

    def of(self, axis: Axis) -> str | None:
        """Return the template of an axis; None for the working distance, which needs none."""
        return {Axis.BRIGHTNESS: self.brightness, Axis.CONTRAST: self.contrast}.get(axis)


def text_message(file_bytes: bytes) -> bytes:
    """Frame an action file for the `text` dialect: its bytes, then one empty line."""
    return file_bytes + b"\n"


class SemReplyReader:
    """Parser of the byte stream of one connection into reply lines."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> list[SemReply]:
        """Add received bytes and return the answers that are complete.

        Raises:
            LinkError: a line is too long or is not an answer, so the peer does not speak this dialect.
        """
        *lines, self._pending = (self._pending + data).split(b"\n")
        if len(self._pending) > MAX_LINE_BYTES:
            raise LinkError(f"the SEM sent {len(self._pending)} bytes without an end of line")
        return [parse_answer(line) for line in lines if line.strip()]


def parse_answer(line: bytes) -> SemReply:
    """Read one reply line: `ACK <ID>`, `BUSY <ID>` or `NAK <ID> <reason>`; CR and surrounding blanks are ignored.

    Raises:
        LinkError: the line is none of these.
    """
    text = line.strip().decode("utf-8", "replace") if len(line) <= MAX_LINE_BYTES else ""
    match = _ANSWER.fullmatch(text)
    if match is None:
        raise LinkError(f"the SEM sent {line[:60]!r}, which is no answer")
    return SemReply(Verdict(match[1]), match[2].lower(), (match[3] or "").strip())


def aisem_moved_axes(action: Action, templates: Templates) -> tuple[Axis, ...]:
    """Return the axes that an action moves and for which a command is known."""
    known = (axis for axis in action.targets if axis is Axis.WD or templates.of(axis) is not None)
    return tuple(axis for axis in known if action.deltas[axis] != 0.0)


def aisem_commands(action: Action, templates: Templates) -> tuple[bytes, ...]:
    """Translate an action into `aisem` commands, each to be sent after the reply to the one before.

    `WDMAG` comes last because it starts the scan. DONE, and a GIVE-UP that moves no axis, need no scan and give no
    commands.

    Raises:
        LinkError: the action has no working distance, without which this dialect cannot ask for a scan.
    """
    moved = aisem_moved_axes(action, templates)
    if action.status is Status.DONE or (action.status is Status.GIVE_UP and not moved):
        return ()
    if Axis.WD not in action.targets:
        raise LinkError("the aisem link asks for a scan by WDMAG, and the action has no WD")
    commands = [
        template.replace("{value}", f"{action.targets[axis]:.3f}")
        for axis in moved
        if (template := templates.of(axis)) is not None
    ]
    commands.append(f"WDMAG,{action.targets[Axis.WD]:.4f},{_plain(action.magnification)}")
    return tuple(command.encode("euc-kr", "replace") for command in commands)


def aisem_reply(data: bytes) -> str:
    """Decode the beginning of an `aisem` reply for the log."""
    return data[:MAX_LINE_BYTES].decode("euc-kr", "replace").strip()


def _plain(magnification: float) -> str:
    """Format a number without exponent and trailing zeros."""
    return f"{magnification:.3f}".rstrip("0").rstrip(".")
