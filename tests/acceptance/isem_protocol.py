"""A strict reader of action files, written from the contract's section 2 alone.

`read_action` judges one file's bytes. `ActionOrder` judges a stream of received files: SEQ, resends, expiry.
"""

from __future__ import annotations

import datetime as dt
import re
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import Final

MESSAGE_LIMIT_BYTES: Final = 4096
STATUSES: Final = ("ADJUST", "DONE", "GIVE-UP", "HOLD")
# Key written in the action -> name in [control] axes.
AXES: Final = {"WD": "wd", "BRIGHTNESS": "brightness", "CONTRAST": "contrast"}

_NUMBER = r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?"
_PLAIN = r"-?\d+(\.\d+)?"
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|\+00:00)"
_PATTERNS: Final = {
    "SEMD-ACTION": r"1",
    "ID": r"[0-9a-fA-F]{32}",
    "SEQ": r"\d+",
    "FRAME": r"\S.*",
    "STATUS": "|".join(STATUSES),
    "MAG": _PLAIN,
    "WD": r"-?\d+\.\d{4}",
    "BRIGHTNESS": r"-?\d+\.\d{3}",
    "CONTRAST": r"-?\d+\.\d{3}",
    "DELTA-WD": _NUMBER,
    "DELTA-BRIGHTNESS": _NUMBER,
    "DELTA-CONTRAST": _NUMBER,
    "SCORE": _PLAIN,
    "REWARD": f"({_NUMBER})?",
    "STEP": r"\d+",
    "ISSUED": _TIME,
    "EXPIRES": _TIME,
    "CRC32": r"[0-9a-fA-F]{8}",
}


class MalformedActionError(ValueError):
    """The bytes are no action file; the message lists every fault found."""


@dataclass(frozen=True, slots=True)
class ReadAction:
    """One action as read from its file. Targets and deltas hold only the axes that the file has.

    Args:
        action_id: 32 hex digits.
        seq: Sequence number.
        frame: Stem of the answered frame.
        status: One of STATUSES.
        magnification: As read by the daemon, x.
        targets: Axis name to absolute target (mm, detector scale).
        deltas: Axis name to signed change.
        score: 0..10.
        reward: None where the field is empty.
        step: Step within the run.
        issued: UTC.
        expires: UTC.
        payload: The file's bytes.
    """

    action_id: str
    seq: int
    frame: str
    status: str
    magnification: float
    targets: dict[str, float]
    deltas: dict[str, float]
    score: float
    reward: float | None
    step: int
    issued: dt.datetime
    expires: dt.datetime
    payload: bytes


def expected_keys(axes: tuple[str, ...]) -> list[str]:
    """Return the keys in their order for the controlled axes."""
    absent = {name for key, axis in AXES.items() if axis not in axes for name in (key, f"DELTA-{key}")}
    return [key for key in _PATTERNS if key not in absent]


def read_action(payload: bytes, axes: tuple[str, ...]) -> ReadAction:
    """Return the action in `payload`.

    Raises:
        MalformedActionError: Any deviation from the format: bytes, order, decimals, checksum, ranges, times.
    """
    faults = []
    if len(payload) > MESSAGE_LIMIT_BYTES:
        faults.append(f"{len(payload)} bytes, more than {MESSAGE_LIMIT_BYTES}")
    if b"\r" in payload or not payload.endswith(b"\n") or payload.endswith(b"\n\n"):
        faults.append("lines must end with LF alone, and the file with one LF")
    try:
        lines = payload.decode("utf-8").split("\n")[:-1]
    except UnicodeDecodeError as error:
        raise MalformedActionError(f"not UTF-8: {error}") from error
    keys = [line.partition("=")[0] for line in lines]
    if keys != expected_keys(axes):
        raise MalformedActionError("; ".join([*faults, f"keys are {keys}, not {expected_keys(axes)}"]))
    fields = dict(zip(keys, (line.partition("=")[2] for line in lines), strict=True))
    faults += [f"{k}={v!r} is ill-formed" for k, v in fields.items() if not re.fullmatch(_PATTERNS[k], v, re.ASCII)]
    computed = zlib.crc32(payload[: payload.rindex(b"CRC32=")])
    if fields["CRC32"].lower() != f"{computed:08x}":
        faults.append(f"CRC32={fields['CRC32']}, computed {computed:08x}")
    if faults:
        raise MalformedActionError("; ".join(faults))
    action = _typed(fields, payload)
    if not 0.0 <= action.score <= 10.0:
        faults.append(f"SCORE={action.score} outside 0..10")
    if action.expires <= action.issued:
        faults.append("EXPIRES is not after ISSUED")
    if action.step > 0 and action.status == "ADJUST" and action.reward is None:
        faults.append(f"REWARD is empty at STEP={action.step}")
    if faults:
        raise MalformedActionError("; ".join(faults))
    return action


def _typed(fields: dict[str, str], payload: bytes) -> ReadAction:
    present = [key for key in AXES if key in fields]
    return ReadAction(
        action_id=fields["ID"],
        seq=int(fields["SEQ"]),
        frame=fields["FRAME"],
        status=fields["STATUS"],
        magnification=float(fields["MAG"]),
        targets={AXES[key]: float(fields[key]) for key in present},
        deltas={AXES[key]: float(fields[f"DELTA-{key}"]) for key in present},
        score=float(fields["SCORE"]),
        reward=float(fields["REWARD"]) if fields["REWARD"] else None,
        step=int(fields["STEP"]),
        issued=dt.datetime.fromisoformat(fields["ISSUED"]),
        expires=dt.datetime.fromisoformat(fields["EXPIRES"]),
        payload=payload,
    )


class ActionOrder:
    """Judges the stream of messages on the `text` link.

    Args:
        axes: Controlled axes.
    """

    def __init__(self, axes: tuple[str, ...]) -> None:
        self._axes = axes
        self._known: dict[str, bytes] = {}
        self._acked_on: dict[str, int] = {}
        self._newest_seq = -1
        self._newest_acked = -1
        self.receipts: Counter[str] = Counter()
        self.violations: list[str] = []

    def receive(self, payload: bytes, connection: int, now: dt.datetime) -> ReadAction | None:
        """Judge one message; return its action, or None where it cannot be read.

        Args:
            payload: The message without its closing empty line.
            connection: Number of the connection it came by.
            now: UTC time of receipt.
        """
        try:
            action = read_action(payload, self._axes)
        except MalformedActionError as error:
            self.violations.append(f"message {payload[:60]!r}: {error}")
            return None
        name = f"SEQ={action.seq} ID={action.action_id}"
        self.receipts[action.action_id] += 1
        if action.expires <= now:
            self.violations.append(f"{name}: sent at {now}, after EXPIRES={action.expires}")
        before = self._known.setdefault(action.action_id, payload)
        if before != payload:
            self.violations.append(f"{name}: sent again with other bytes")
        if self.receipts[action.action_id] == 1:
            if action.seq <= self._newest_seq:
                self.violations.append(f"{name}: new action, but SEQ={self._newest_seq} came before")
            self._newest_seq = max(self._newest_seq, action.seq)
        elif self._acked_on.get(action.action_id) == connection:
            self.violations.append(f"{name}: sent again on the connection that had acknowledged it")
        if action.seq < self._newest_acked:
            self.violations.append(f"{name}: older than the newest acknowledged SEQ={self._newest_acked}")
        return action

    def acknowledged(self, action: ReadAction, connection: int) -> None:
        """Note that ACK was delivered for `action`."""
        self._acked_on[action.action_id] = connection
        self._newest_acked = max(self._newest_acked, action.seq)
