"""SQL statements of the ledger, each under its name.

A frame is TAKEN, DECIDED and PUBLISHED, or QUARANTINING and QUARANTINED; an UPDATE names the state that it expects.
"""

# ruff: noqa: S608 - the pieces put together here are constants of this file

from __future__ import annotations

from dataclasses import fields

from semd.outbox.rows import LedgerRow

_ROW = ", ".join(field.name for field in fields(LedgerRow))
_SAME_FRAME = "stem = :stem AND image_digest IS :image_digest AND text_digest IS :text_digest"

# Opening the file.

CREATE_TABLES = """
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
"""Tables and indices of a new ledger, schema version 1."""

CREATE_STARTS_TABLE = "CREATE TABLE IF NOT EXISTS starts (seq INTEGER PRIMARY KEY, times INTEGER NOT NULL)"
"""Add the table of resumed frames; ledgers of older versions lack it, and older versions ignore it."""

COUNT_TABLES = "SELECT count(*) FROM sqlite_schema"
"""Tell an empty database from one with tables."""

ALLOW_INCREMENTAL_VACUUM = "PRAGMA auto_vacuum = INCREMENTAL"
"""Let free pages be returned one by one; takes effect only before the first page is written."""

USE_WRITE_AHEAD_LOG = "PRAGMA journal_mode = WAL"
"""Keep commits in a write-ahead log."""

QUICK_CHECK = "PRAGMA quick_check(1)"
"""Check the pages of the whole file and report the first fault; 'ok' when there is none."""

# Transactions and durability.

SYNC_EVERY_COMMIT = "PRAGMA synchronous = FULL"
"""Make each commit durable before it returns."""

SYNC_LATER = "PRAGMA synchronous = NORMAL"
"""Leave commits to the next durable one; a power cut may take them back."""

BEGIN = "BEGIN IMMEDIATE"
"""Begin a transaction that holds the write lock from the start."""

COMMIT = "COMMIT"
"""End a transaction and keep it."""

ROLLBACK = "ROLLBACK"
"""End a transaction and drop it."""

# The sequence number.

RAISE_HIGHEST_SEQ = "UPDATE sequence SET highest = max(highest, ?)"
"""Raise the highest SEQ to that of the action files found."""

ALLOT_SEQ = "UPDATE sequence SET highest = highest + 1 RETURNING highest"
"""Allot the next SEQ."""

HIGHEST_SEQ = "SELECT highest FROM sequence"
"""Read the highest SEQ ever allotted."""

# The life of a frame.

INSERT_FRAME = (
    "INSERT INTO frames (stem, id, image_name, text_name, image_digest, text_digest, fingerprint, moves, "
    "reason_code, reason_text, state, seq, taken_at) VALUES (:stem, :id, :image_name, :text_name, :image_digest, "
    ":text_digest, :fingerprint, :moves, :reason_code, :reason_text, :state, :seq, :taken_at)"
)
"""Add a frame that was claimed or rejected."""

DECIDE = (
    "UPDATE frames SET state = 'DECIDED', observation_json = ?, decision_json = ?, "
    "starts_run = ?, is_hold = ? WHERE seq = ? AND state = 'TAKEN'"
)
"""Keep the answer to a taken frame."""

PUBLISH = (
    "UPDATE frames SET state = 'PUBLISHED', issued = ?, expires = ?, ended_at = ? WHERE seq = ? AND state = 'DECIDED'"
)
"""Note that the action file of a decided frame exists."""

ABANDON = (
    "UPDATE frames SET state = 'QUARANTINED', reason_code = ?, reason_text = ?, ended_at = ? "
    "WHERE seq = ? AND state = 'TAKEN'"
)
"""End a taken frame that cannot be answered any more."""

FAIL = "UPDATE frames SET reason_code = ?, reason_text = ?, moves = ? WHERE seq = ? AND state = 'TAKEN'"
"""Note why a taken frame could not be scored or decided on, and where its files go."""

QUARANTINE = "UPDATE frames SET state = 'QUARANTINED', ended_at = ? WHERE row = ? AND state = 'QUARANTINING'"
"""End a rejected frame whose files lie in quarantine."""

SET_FINGERPRINT = f"UPDATE frames SET fingerprint = :fingerprint WHERE {_SAME_FRAME}"
"""Replace the fingerprint of a frame whose files were rewritten with the same bytes."""

ADD_MISSING_NAMES = (
    "UPDATE frames SET image_name = coalesce(image_name, ?), text_name = coalesce(text_name, ?) WHERE row = ?"
)
"""Name the file that a quarantined frame lacked and that came later."""

COUNT_START = "INSERT INTO starts VALUES (?, 1) ON CONFLICT (seq) DO UPDATE SET times = times + 1 RETURNING times"
"""Count a process that resumes a frame left unfinished by another."""

DROP_STARTS = "DELETE FROM starts WHERE seq <= ?"
"""Drop the counts of frames that have been decided."""

# Look-ups.

HAS_FINGERPRINT = "SELECT 1 FROM frames WHERE fingerprint = ? LIMIT 1"
"""Find a frame by the looks of its files."""

HAS_FRAME = f"SELECT 1 FROM frames WHERE {_SAME_FRAME} LIMIT 1"
"""Find a frame by its stem and bytes."""

HAS_ID = "SELECT 1 FROM frames WHERE id = :id LIMIT 1"
"""Find a frame by its action's id."""

HAS_ID_OR_FRAME = f"SELECT 1 FROM frames WHERE id = :id OR ({_SAME_FRAME}) LIMIT 1"
"""Find a frame by its action's id, or by its stem and bytes."""

HAS_IMAGE = (
    "SELECT 1 FROM frames WHERE stem = ? AND image_digest = ? AND seq NOT NULL AND state != 'QUARANTINED' LIMIT 1"
)
"""Find an answered frame, or one to be answered, by its stem and image."""

NEWEST_OF_STEM = f"SELECT {_ROW} FROM frames WHERE stem = ? ORDER BY row DESC LIMIT 1"
"""Read the last frame of a stem."""

UNFINISHED = f"SELECT {_ROW} FROM frames WHERE state IN ('TAKEN', 'DECIDED', 'QUARANTINING') ORDER BY row"
"""Read the frames that have not ended, in the order of taking."""

ANSWERED = f"SELECT {_ROW} FROM frames WHERE decision_json NOT NULL ORDER BY seq"
"""Read the answered frames, in the order of SEQ."""

ANSWERS_AS_BYTES = (
    "SELECT CAST(observation_json AS BLOB), CAST(decision_json AS BLOB) FROM frames "
    "WHERE decision_json NOT NULL ORDER BY seq"
)
"""Read the records of the answered frames as bytes, since damaged text cannot be fetched otherwise."""

COUNT_BY_STATE = "SELECT state, count(*) FROM frames GROUP BY state"
"""Count the frames in each state."""

# The current run.

NEWEST_RUN_START = "SELECT max(seq) FROM frames WHERE starts_run = 1 AND seq <= ?"
"""Find the newest first frame of a run, up to a SEQ."""

ANSWER_BEFORE = "SELECT seq, is_hold FROM frames WHERE seq < ? AND is_hold NOT NULL ORDER BY seq DESC LIMIT 1"
"""Find the answer before a SEQ."""

RECORDS_SINCE = "SELECT observation_json, decision_json FROM frames WHERE seq >= ? AND is_hold NOT NULL ORDER BY seq"
"""Read the records that a run is rebuilt from."""

# Retention.

ENDED_ROWS = (
    "SELECT row, ended_at, image_name, text_name, moves FROM frames WHERE row > ? AND ended_at NOT NULL "
    "AND state IN ('PUBLISHED', 'QUARANTINED') AND (seq IS NULL OR seq < ?) ORDER BY row LIMIT ?"
)
"""Read ended frames that the current run does not need."""

NEWEST_LEFT_NAMES = "SELECT image_name, text_name FROM frames WHERE moves = '[]' ORDER BY row DESC LIMIT 1"
"""Read the file names of the newest frame whose files stayed in the watch directory."""

DELETE_ENDED_ROW = "DELETE FROM frames WHERE row = ? AND state IN ('PUBLISHED', 'QUARANTINED')"
"""Forget an ended frame."""

COUNT_FRAMES = "SELECT count(*) FROM frames"
"""Count all frames."""
