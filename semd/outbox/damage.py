"""Damaged ledgers: detected before a write, renamed with the time, and released by a person only.

What the ledger would have said of the frames in the watch directory is never guessed: with its note beside it the
daemon does not start. The action files are held against the ledger as well: one that knows less than they do has lost
committed rows, however whole it looks (a log full of garbage is dropped by SQLite without a word; a backup put back
is older than the actions).
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from semd.errors import LedgerDamagedError
from semd.outbox import statements
from semd.outbox.database import APPLICATION_ID, WHAT_TO_DO, explained, pragma
from semd.service.storage import rename, storage_error, sync_directory, write_atomically

NOTE_FILE = "LEDGER-DAMAGED.txt"

_CHECKED_BYTES = 64_000_000
"""A whole check reads the whole file: beyond this a start would take noticeably longer."""

_NOTE = """{reason}
Time: {moment}

The daemon does not start while this note is here. The damaged ledger lies beside it as {aside}
(with -wal and -shm, where there were any); nothing of it was changed.

What to do:
1. Frames without an answer. Every answer is an action file, pending or in a folder below the action directory, with
   FRAME= in it. In layout `single`, a pair in `archive` whose number is that of no action file was taken and never
   answered. Scan again what still matters.
2. Frames in the watch directory. The new ledger knows none of them: the daemon will answer each anew. In layout
   `series` move them elsewhere, all but those that are to be answered. In layout `single` leave the pair where it is.
3. Delete this note and start the daemon. SEQ goes on above {floor_seq}.
"""


def inspect_ledger(path: Path, floor_seq: int) -> None:
    """Check a ledger without writing to it; a missing one is fine.

    Args:
        path: the file.
        floor_seq: the highest SEQ that is known to have been allotted.

    Raises:
        LedgerDamagedError: it is no database, a page is damaged, or it knows less than `floor_seq`.
        LedgerError: it is locked.
        StorageError: it cannot be read.
    """
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise storage_error(path, "read", error) from error
    highest = 0
    if size:  # an empty file is a ledger not yet begun, or cut to nothing: the floor tells
        # Read-only, for a writer that closes would fold what it understood of the log into the file.
        address = f"file:{quote(str(path.resolve()))}?mode=ro"
        with explained(path), closing(sqlite3.connect(address, uri=True)) as connection:
            found = _highest_seq(connection, path, check=size <= _CHECKED_BYTES)
        if found is None:
            return
        highest = found
    if highest < floor_seq:
        raise LedgerDamagedError(
            f"{path}: knows SEQ up to {highest}, action files or archive go up to {floor_seq}: "
            f"committed rows are lost: {WHAT_TO_DO}"
        )


def _highest_seq(connection: sqlite3.Connection, path: Path, *, check: bool) -> int | None:
    """None when the database is of another program, which opening it will say."""
    application = pragma(connection, "application_id")
    if application != APPLICATION_ID:
        tables = connection.execute(statements.COUNT_TABLES).fetchone()[0]
        return None if application or tables else 0
    if check:
        verdict = connection.execute(statements.QUICK_CHECK).fetchone()[0]
        if verdict != "ok":
            raise LedgerDamagedError(f"{path}: damaged ({verdict}): {WHAT_TO_DO}")
    highest: int = connection.execute(statements.HIGHEST_SEQ).fetchone()[0]
    return highest


def set_aside(path: Path, reason: str, floor_seq: int, now: datetime) -> Path:
    """Rename a damaged ledger and leave the note that keeps the daemon from starting; durable on return.

    The note comes first and the ledger itself last: whatever a crash leaves is found by the next start.

    Returns:
        The ledger's new place.

    Raises:
        StorageError: it cannot be done.
    """
    aside = path.with_name(f"{path.name}.damaged-{now:%Y%m%dT%H%M%S.%fZ}")
    text = _NOTE.format(reason=reason, moment=now.isoformat(timespec="seconds"), aside=aside.name, floor_seq=floor_seq)
    write_atomically(path.with_name(NOTE_FILE), text.encode("utf-8", "backslashreplace"))
    try:
        for suffix in ("-wal", "-shm", ""):
            if os.path.lexists(f"{path}{suffix}"):
                rename(path.with_name(path.name + suffix), aside.with_name(aside.name + suffix))
        sync_directory(path.parent)
    except OSError as error:
        raise storage_error(path, f"rename to {aside.name}", error) from error
    return aside


def damage_standing(directory: Path) -> str | None:
    """Note of damage in a state directory, in one line; None when there is none.

    Raises:
        StorageError: it cannot be read.
    """
    note = directory / NOTE_FILE
    try:
        with note.open("rb") as file:
            first = file.read(1000).decode("utf-8", "replace").partition("\n")[0]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(note, "read", error) from error
    return f"the ledger was damaged and set aside ({first}): do what {note} says"
