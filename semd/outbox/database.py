"""Opening the ledger's SQLite file: ours or not, whole or not, and what its errors mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from semd.errors import LedgerDamagedError, LedgerError, StorageError
from semd.service.storage import storage_error

APPLICATION_ID = int.from_bytes(b"SEMD", "big")
SCHEMA_VERSION = 1
WHAT_TO_DO = "start the daemon, which sets it aside and says how to go on"
_BUSY_TIMEOUT_S = 5.0

_SCHEMA = """
CREATE TABLE frames (
    row INTEGER PRIMARY KEY,
    state TEXT NOT NULL
        CHECK (state IN ('TAKEN', 'DECIDED', 'PUBLISHED', 'QUARANTINING', 'QUARANTINED')),
    seq INTEGER UNIQUE,
    id TEXT UNIQUE,
    stem TEXT NOT NULL,
    image_name TEXT,
    text_name TEXT,
    image_digest TEXT,
    text_digest TEXT,
    fingerprint TEXT NOT NULL,
    moves TEXT NOT NULL,
    reason_code TEXT,
    reason_text TEXT,
    observation_json TEXT,
    decision_json TEXT,
    starts_run INTEGER,
    is_hold INTEGER,
    taken_at TEXT NOT NULL,
    ended_at TEXT,
    issued TEXT,
    expires TEXT,
    CHECK ((seq IS NULL) = (id IS NULL))
);
CREATE INDEX frames_by_fingerprint ON frames (fingerprint);
CREATE INDEX frames_by_stem ON frames (stem, image_digest, text_digest);
CREATE INDEX frames_unfinished ON frames (row) WHERE state IN ('TAKEN', 'DECIDED', 'QUARANTINING');
CREATE INDEX frames_by_run ON frames (seq) WHERE starts_run = 1;
CREATE INDEX frames_by_state ON frames (state);
CREATE TABLE sequence (highest INTEGER NOT NULL);
INSERT INTO sequence VALUES (0);
"""
# Apart from the rest: a ledger of an older semd gets it when it is opened, and an older semd does not mind it.
_STARTS = "CREATE TABLE IF NOT EXISTS starts (seq INTEGER PRIMARY KEY, times INTEGER NOT NULL)"


def open_database(path: Path) -> sqlite3.Connection:
    """Open the ledger's file, or make it.

    Autocommit is on: transactions are begun explicitly. WAL with full synchronisation: a commit survives a
    power cut.

    Raises:
        LedgerError: the file is not a ledger, is locked, or of a newer semd; `LedgerDamagedError`: it is damaged.
        StorageError: it cannot be made or written.
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
    """Turn SQLite's errors into ours, with what to do."""
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
    application = _pragma(connection, "application_id")
    version = _pragma(connection, "user_version")
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    is_new = (application, version, tables) == (0, 0, 0)
    if not is_new and application != APPLICATION_ID:
        raise LedgerError(f"{path}: a database of another program: name another [state] directory")
    if version > SCHEMA_VERSION:
        raise LedgerError(f"{path}: written by a newer semd (schema {version}): install that one")
    if is_new:  # before the first page is written, or never
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    if is_new:
        # The mark comes last and in the same transaction: a file with our mark has all our tables.
        connection.executescript(
            f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID}; "
            f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )
    connection.execute(_STARTS)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
