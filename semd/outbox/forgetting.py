"""Deletion of ledger rows that nothing needs any more, and of the disk space they took."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from semd.errors import LedgerDamagedError


@dataclass(frozen=True, slots=True)
class EndedRow:
    """A row whose frame has ended, and that the present run is not rebuilt from.

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
        rows: frames that it knows.
        used_bytes: of the file, without the room that forgotten rows have left.
    """

    rows: int
    used_bytes: int


def ended_rows(connection: sqlite3.Connection, *, after_row: int, before_seq: int | None, most: int) -> list[EndedRow]:
    """Rows that have ended, in the order of taking.

    Args:
        connection: the ledger's.
        after_row: give rows behind this one.
        before_seq: the present run begins with this SEQ; None when there is no run.
        most: rows at once.

    Raises:
        LedgerDamagedError: what a row holds is not what was written.
    """
    limit = 2**62 if before_seq is None else before_seq
    found = connection.execute(
        "SELECT row, ended_at, image_name, text_name, moves FROM frames WHERE row > ? AND ended_at NOT NULL "
        "AND state IN ('PUBLISHED', 'QUARANTINED') AND (seq IS NULL OR seq < ?) ORDER BY row LIMIT ?",
        (after_row, limit, most),
    ).fetchall()
    return [_ended(values) for values in found]


def newest_left_names(connection: sqlite3.Connection) -> tuple[str, ...]:
    """File names of the newest frame whose files stayed where they were; empty when there is none."""
    found = connection.execute(
        "SELECT image_name, text_name FROM frames WHERE moves = '[]' ORDER BY row DESC LIMIT 1"
    ).fetchone()
    return tuple(name for name in found or () if name is not None)


def delete_rows(cursor: sqlite3.Cursor, rows: Sequence[int]) -> int:
    """Delete these rows, unless one has not ended; returns how many went."""
    deleted = 0
    for row in rows:
        cursor.execute("DELETE FROM frames WHERE row = ? AND state IN ('PUBLISHED', 'QUARANTINED')", (row,))
        deleted += cursor.rowcount
    return deleted


def size_of(connection: sqlite3.Connection) -> LedgerSize:
    """Count its rows and pages. Reads an index of all rows: not for every frame."""
    page_bytes, pages, free = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
    )
    rows = connection.execute("SELECT count(*) FROM frames").fetchone()[0]
    return LedgerSize(rows, (pages - free) * page_bytes)


def give_back(connection: sqlite3.Connection, most_pages: int) -> bool:
    """Cut free pages off the file's end; returns whether there are more.

    A ledger of an older semd, whose pages cannot be cut off one by one, keeps them and fills them again.
    """
    if connection.execute("PRAGMA auto_vacuum").fetchone()[0] == 0:
        return False
    connection.execute(f"PRAGMA incremental_vacuum({most_pages})").fetchall()
    left: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return left > 0


def _ended(values: tuple[int, str, str | None, str | None, str]) -> EndedRow:
    row, ended_at, image_name, text_name, moves = values
    try:
        was_moved = bool(json.loads(moves))
        moment = datetime.fromisoformat(ended_at)
    except (ValueError, TypeError, RecursionError) as error:
        raise LedgerDamagedError(f"row {row} of the ledger is damaged: {str(error)[:200]}") from error
    names = () if was_moved else tuple(name for name in (image_name, text_name) if name is not None)
    return EndedRow(row, moment, names)
