"""Records of the ledger: claims, rejections and rows."""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass, fields
from enum import StrEnum
from typing import Any

from semd.errors import LedgerDamagedError

Fingerprint = tuple[tuple[str | int, ...], ...]
"""What a look at the directory tells of a frame's files: ((name, size, mtime_ns, ...), ...)."""


class RowState(StrEnum):
    """State of a frame in the ledger."""

    TAKEN = "TAKEN"
    DECIDED = "DECIDED"
    PUBLISHED = "PUBLISHED"
    QUARANTINING = "QUARANTINING"
    QUARANTINED = "QUARANTINED"


@dataclass(frozen=True, slots=True)
class Move:
    """Move of one of a frame's files, kept so that it can be finished after a crash."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A frame that is to be answered.

    Attributes:
        stem: the frame's stem, as in the action's FRAME.
        id: the action's id, 32 hex digits.
        image_name: name of the image file in the watch directory.
        text_name: name of the parameter file; None where the image carries the parameters.
        image_digest: SHA-256 of the image file, hex.
        text_digest: SHA-256 of the parameter file, hex; that of nothing where there is none.
        fingerprint: of the files when they were read.
        moves: where the files go on consumption; empty when they stay.
        reason_code, reason_text: why the image was unusable (quarantined and answered with HOLD), or None.
    """

    stem: str
    id: str
    image_name: str
    text_name: str | None
    image_digest: str
    text_digest: str
    fingerprint: Fingerprint
    moves: tuple[Move, ...] = ()
    reason_code: str | None = None
    reason_text: str | None = None


@dataclass(frozen=True, slots=True)
class RejectionClaim:
    """A frame that gets no answer: its parameters cannot be read, or half of it never came.

    Attributes:
        stem: common stem of the files.
        image_name, text_name: the files' names; None for a half that is not there.
        image_digest, text_digest: their SHA-256 in hex, likewise.
        fingerprint: of the files that are there.
        reason_code, reason_text: why.
        moves: where the files go.
    """

    stem: str
    image_name: str | None
    text_name: str | None
    image_digest: str | None
    text_digest: str | None
    fingerprint: Fingerprint
    reason_code: str
    reason_text: str
    moves: tuple[Move, ...]


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One frame as the ledger knows it; see `Claim` and `RejectionClaim` for the fields.

    Attributes:
        row: number of the row, in the order of taking.
        state: how far the frame has come.
        seq, id: of its action; None for a rejected frame.
        observation_json, decision_json: as given to `Ledger.decide`; None before.
    """

    row: int
    state: RowState
    seq: int | None
    id: str | None
    stem: str
    image_name: str | None
    text_name: str | None
    image_digest: str | None
    text_digest: str | None
    fingerprint: Fingerprint
    moves: tuple[Move, ...]
    reason_code: str | None
    reason_text: str | None
    observation_json: str | None
    decision_json: str | None


def storable(value: Any) -> Any:
    r"""File names whose bytes are not UTF-8 come with lone surrogates, which SQLite refuses: escape them."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def moves_json(moves: tuple[Move, ...]) -> str:
    """Moves as the ledger stores them."""
    return json.dumps([astuple(move) for move in moves])


def stored_row(values: tuple[Any, ...]) -> LedgerRow:
    """A row of the ledger from its columns, in the order of `LedgerRow`.

    Raises:
        LedgerDamagedError: a column holds what no ledger writes.
    """
    named = dict(zip((field.name for field in fields(LedgerRow)), values, strict=True))
    try:
        named["state"] = RowState(named["state"])
        named["fingerprint"] = tuple(tuple(part) for part in json.loads(named["fingerprint"]))
        named["moves"] = tuple(Move(*pair) for pair in json.loads(named["moves"]))
    except (ValueError, TypeError, RecursionError) as error:
        raise LedgerDamagedError(f"row {named['row']} of the ledger is damaged: {str(error)[:200]}") from error
    return LedgerRow(**named)
