"""Opening the SQLite file of the ledger, and translation of SQLite's errors."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from semd.errors import LedgerDamagedError, LedgerError, StorageError
from semd.outbox import statements
from semd.service.storage import storage_error

APPLICATION_ID = int.from_bytes(b"SEMD", "big")
SCHEMA_VERSION = 1
WHAT_TO_DO = "start the daemon, which sets it aside and says how to go on"
_BUSY_TIMEOUT_S = 5.0


def open_database(path: Path) -> sqlite3.Connection:
    """Open the ledger file, creating it when missing.

    Autocommit is on, so transactions are begun explicitly. With a write-ahead log and full synchronisation a commit
    survives a power cut.

    Raises:
        LedgerError: the file is not a ledger, is locked, or was written by a newer semd.
        LedgerDamagedError: the file is damaged.
        StorageError: the file cannot be created or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(path.parent, "create", error) from error
    with explained(path):
        connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    try:
        with explained(path):
            _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Translate SQLite's errors into semd's, with the remedy."""
    try:
        yield
    except UnicodeDecodeError as error:  # a name or text that was written as UTF-8
        raise LedgerDamagedError(f"{path}: damaged ({error}): {WHAT_TO_DO}") from error
    except sqlite3.DatabaseError as error:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise LedgerDamagedError(f"{path}: damaged or not a ledger ({error}): {WHAT_TO_DO}") from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise LedgerError(f"{path}: another process holds the ledger ({error})") from error
        if code == sqlite3.SQLITE_FULL:
            raise StorageError(f"{path}: cannot write: the disk is full: make room") from error
        if code in (
            sqlite3.SQLITE_READONLY,
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_PERM,
        ):
            raise StorageError(f"{path}: cannot write: {error}") from error
        raise LedgerError(f"{path}: {error}") from error
    except OSError as error:
        raise storage_error(path, "write", error) from error


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    # Look before touching anything: a foreign database stays as it was.
    application = pragma(connection, "application_id")
    version = pragma(connection, "user_version")
    tables = connection.execute(statements.COUNT_TABLES).fetchone()[0]
    is_new = (application, version, tables) == (0, 0, 0)
    if not is_new and application != APPLICATION_ID:
        raise LedgerError(f"{path}: a database of another program: name another [state] directory")
    if version > SCHEMA_VERSION:
        raise LedgerError(f"{path}: written by a newer semd (schema {version}): install that one")
    if is_new:  # before the first page is written, or never
        connection.execute(statements.ALLOW_INCREMENTAL_VACUUM)
    connection.execute(statements.USE_WRITE_AHEAD_LOG)
    connection.execute(statements.SYNC_EVERY_COMMIT)
    if is_new:
        # The mark comes last and in the same transaction: a file with our mark has all our tables.
        connection.executescript(
            f"BEGIN IMMEDIATE; {statements.CREATE_TABLES} PRAGMA application_id = {APPLICATION_ID}; "
            f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )
    connection.execute(statements.CREATE_STARTS_TABLE)


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """Read an integer setting of the database, such as `user_version`."""
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
