"""Deletion of ledger rows that are no longer needed, and release of their disk space."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from semd.errors import LedgerDamagedError
from semd.outbox import statements
from semd.outbox.database import pragma


@dataclass(frozen=True, slots=True)
class EndedRow:
    """A row whose frame has ended and that the current run is not rebuilt from.

    Attributes:
        row: its number.
        ended_at: when, UTC.
        left_names: names of the frame's files where they stayed in the watch directory; empty where they were moved.
    """

    row: int
    ended_at: datetime
    left_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LedgerSize:
    """Size of the ledger.

    Attributes:
        rows: number of frames in it.
        used_bytes: bytes of the file in use, without the space of forgotten rows.
    """

    rows: int
    used_bytes: int


def ended_rows(connection: sqlite3.Connection, *, after_row: int, before_seq: int | None, most: int) -> list[EndedRow]:
    """Rows that have ended, in the order of taking.

    Args:
        connection: connection to the ledger.
        after_row: return only rows after this one.
        before_seq: SEQ of the first frame of the current run; None when there is no run.
        most: maximum number of rows.

    Raises:
        LedgerDamagedError: a row cannot be read.
    """
    limit = 2**62 if before_seq is None else before_seq
    found = connection.execute(statements.ENDED_ROWS, (after_row, limit, most)).fetchall()
    return [_ended(values) for values in found]


def newest_left_names(connection: sqlite3.Connection) -> tuple[str, ...]:
    """File names of the newest frame whose files stayed where they were; empty when there is none."""
    found = connection.execute(statements.NEWEST_LEFT_NAMES).fetchone()
    return tuple(name for name in found or () if name is not None)


def delete_rows(cursor: sqlite3.Cursor, rows: Sequence[int]) -> int:
    """Delete the given rows, except those that have not ended; return the number deleted."""
    deleted = 0
    for row in rows:
        cursor.execute(statements.DELETE_ENDED_ROW, (row,))
        deleted += cursor.rowcount
    return deleted


def size_of(connection: sqlite3.Connection) -> LedgerSize:
    """Count rows and pages. This reads an index of all rows, so do not call it for every frame."""
    page_bytes, pages, free = (pragma(connection, name) for name in ("page_size", "page_count", "freelist_count"))
    rows = connection.execute(statements.COUNT_FRAMES).fetchone()[0]
    return LedgerSize(rows, (pages - free) * page_bytes)


def give_back(connection: sqlite3.Connection, most_pages: int) -> bool:
    """Cut free pages off the end of the file; return True if more are left.

    A ledger of an older semd, whose pages cannot be cut off one by one, keeps them and fills them again.
    """
    if pragma(connection, "auto_vacuum") == 0:
        return False
    connection.execute(f"PRAGMA incremental_vacuum({most_pages})").fetchall()
    return pragma(connection, "freelist_count") > 0


def _ended(values: tuple[int, str, str | None, str | None, str]) -> EndedRow:
    row, ended_at, image_name, text_name, moves = values
    try:
        was_moved = bool(json.loads(moves))
        moment = datetime.fromisoformat(ended_at)
    except (ValueError, TypeError, RecursionError) as error:
        raise LedgerDamagedError(f"row {row} of the ledger is damaged: {str(error)[:200]}") from error
    names = () if was_moved else tuple(name for name in (image_name, text_name) if name is not None)
    return EndedRow(row, moment, names)
