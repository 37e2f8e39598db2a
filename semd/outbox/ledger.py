"""The ledger: one row for each frame, so that each ends exactly once, whatever crashes in between.

TAKEN -> DECIDED -> PUBLISHED for a frame that is answered, QUARANTINING -> QUARANTINED for one that is not.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, fields
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from semd.errors import LedgerError
from semd.outbox.database import explained, open_database
from semd.outbox.rows import Claim, Fingerprint, LedgerRow, Move, Rejection, RowState

_COLUMNS = ", ".join(field.name for field in fields(LedgerRow))
_SAME_FRAME = "stem = :stem AND image_digest IS :image_digest AND text_digest IS :text_digest"


class Ledger:
    """SQLite file of frames; used by one thread of one process.

    Args:
        path: the file; made when missing.
        now: the clock, UTC.
        floor_seq: highest SEQ of any action file found; the next one allotted is higher.

    Raises:
        LedgerError: the file is not a ledger, damaged, locked or of a newer semd (any method).
        StorageError: it cannot be written (any method).
    """

    def __init__(self, path: Path, *, now: Callable[[], datetime], floor_seq: int = 0) -> None:
        self._path = path
        self._now = now
        self._connection = open_database(path)
        with self._transaction() as cursor:
            cursor.execute("UPDATE sequence SET highest = max(highest, ?)", (floor_seq,))

    def __enter__(self) -> Ledger:
        """Return the ledger itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the file. What was committed stays."""
        self._connection.close()

    def claim(self, claim: Claim) -> int | None:
        """Take a frame and allot its SEQ.

        Durable on return when files are to be moved: where they went must not be forgotten. When they stay,
        the claim is synced together with the decision. A power cut in between takes it back, and the frame
        is found and taken again; its SEQ was on no action file yet.

        Returns:
            SEQ; or None when this id, or this stem with these very bytes, was taken or rejected before.
        """
        with self._synced_if(bool(claim.moves)), self._transaction() as cursor:
            if self._is_known(cursor, claim):
                return None
            seq: int = cursor.execute("UPDATE sequence SET highest = highest + 1 RETURNING highest").fetchone()[0]
            self._insert(cursor, claim, state=RowState.TAKEN, seq=seq)
        return seq

    def reject(self, rejection: Rejection) -> int | None:
        """Note that a frame is about to be moved to quarantine; durable on return.

        Returns:
            The row's number for `quarantined`; or None when this stem with these bytes was seen before.
        """
        with self._transaction() as cursor:
            if self._is_known(cursor, rejection):
                return None
            return self._insert(cursor, rejection, state=RowState.QUARANTINING, seq=None)

    def decide(self, seq: int, observation_json: str, decision_json: str, *, starts_run: bool, is_hold: bool) -> None:
        """Keep the answer to a taken frame; durable on return, so that a crash cannot change it.

        Args:
            seq: of the frame.
            observation_json: kept as it is, for `current_run` and for recovery.
            decision_json: likewise.
            starts_run: whether a run begins with this frame.
            is_hold: whether the answer is HOLD.
        """
        with self._transaction() as cursor:
            cursor.execute(
                "UPDATE frames SET state = 'DECIDED', observation_json = ?, decision_json = ?, "
                "starts_run = ?, is_hold = ? WHERE seq = ? AND state = 'TAKEN'",
                (observation_json, decision_json, int(starts_run), int(is_hold), seq),
            )
            self._require_change(cursor, f"SEQ {seq} is not a taken frame")

    def published(self, seq: int, issued: datetime, expires: datetime) -> None:
        """Note that the action file is there.

        This commit is not synced to the disk. A power cut may take it back; the row is DECIDED then, and
        recovery finds the action file, which is the durable fact, and comes here again.
        """
        with self._synced_if(False), self._transaction() as cursor:
            cursor.execute(
                "UPDATE frames SET state = 'PUBLISHED', issued = ?, expires = ?, ended_at = ? "
                "WHERE seq = ? AND state = 'DECIDED'",
                (issued.isoformat(), expires.isoformat(), self._now().isoformat(), seq),
            )
            self._require_change(cursor, f"SEQ {seq} is not a decided frame")

    def abandon(self, seq: int, reason_code: str, reason_text: str) -> None:
        """End a taken frame in quarantine: its files are gone, it cannot be answered any more."""
        with self._transaction() as cursor:
            cursor.execute(
                "UPDATE frames SET state = 'QUARANTINED', reason_code = ?, reason_text = ?, ended_at = ? "
                "WHERE seq = ? AND state = 'TAKEN'",
                (reason_code, reason_text, self._now().isoformat(), seq),
            )
            self._require_change(cursor, f"SEQ {seq} is not a taken frame")

    def quarantined(self, row: int) -> None:
        """Note that the files of a rejected frame lie in quarantine. Not synced: moving is idempotent."""
        with self._synced_if(False), self._transaction() as cursor:
            cursor.execute(
                "UPDATE frames SET state = 'QUARANTINED', ended_at = ? WHERE row = ? AND state = 'QUARANTINING'",
                (self._now().isoformat(), row),
            )
            self._require_change(cursor, f"row {row} is not on its way to quarantine")

    def set_fingerprint(
        self, stem: str, image_digest: str | None, text_digest: str | None, fingerprint: Fingerprint
    ) -> bool:
        """Remember the new looks of files that were rewritten with the same bytes.

        Returns:
            Whether such a frame is known.
        """
        with self._synced_if(False), self._transaction() as cursor:
            cursor.execute(
                f"UPDATE frames SET fingerprint = :fingerprint WHERE {_SAME_FRAME}",  # noqa: S608
                {
                    "fingerprint": json.dumps(fingerprint),
                    "stem": _storable(stem),
                    "image_digest": image_digest,
                    "text_digest": text_digest,
                },
            )
            return cursor.rowcount > 0

    def knows(self, fingerprint: Fingerprint) -> bool:
        """Whether files that look like this were taken or rejected; one look-up, no file is read."""
        return self._exists("fingerprint = ?", json.dumps(fingerprint))

    def known_image(self, stem: str, image_digest: str) -> bool:
        """Whether a frame with this image was taken, and not lost: a late edit of its text makes no new frame."""
        where = "stem = ? AND image_digest = ? AND seq NOT NULL AND state != 'QUARANTINED'"
        return self._exists(where, _storable(stem), image_digest)

    def unfinished(self) -> list[LedgerRow]:
        """Rows that a crash left half-way (TAKEN, DECIDED, QUARANTINING), in the order of taking."""
        where = "state IN ('TAKEN', 'DECIDED', 'QUARANTINING') ORDER BY row"
        with explained(self._path):
            rows = self._connection.execute(f"SELECT {_COLUMNS} FROM frames WHERE {where}")  # noqa: S608
            return [_row(values) for values in rows.fetchall()]

    def current_run(self) -> list[tuple[str, str]]:
        """What the present run is rebuilt from: (observation_json, decision_json), oldest first.

        HOLDs in a row are counted across runs; so where HOLDs lead up to the run's first frame, the run
        before it is given as well.
        """
        with explained(self._path):
            first = self._run_start(None)
            while first is not None:
                before = self._connection.execute(
                    "SELECT seq, is_hold FROM frames WHERE seq < ? AND is_hold NOT NULL ORDER BY seq DESC LIMIT 1",
                    (first,),
                ).fetchone()
                earlier = self._run_start(before[0]) if before is not None and before[1] else None
                if earlier is None:
                    break
                first = earlier
            if first is None:
                return []
            return self._connection.execute(
                "SELECT observation_json, decision_json FROM frames WHERE seq >= ? AND is_hold NOT NULL ORDER BY seq",
                (first,),
            ).fetchall()

    def highest_seq(self) -> int:
        """The newest SEQ allotted, or the floor; 0 when there is none."""
        with explained(self._path):
            highest: int = self._connection.execute("SELECT highest FROM sequence").fetchone()[0]
            return highest

    def answered(self) -> list[LedgerRow]:
        """Rows of all answered frames, in the order of SEQ."""
        with explained(self._path):
            rows = self._connection.execute(
                f"SELECT {_COLUMNS} FROM frames WHERE decision_json NOT NULL ORDER BY seq"  # noqa: S608
            )
            return [_row(values) for values in rows.fetchall()]

    def answers(self) -> list[tuple[bytes | None, bytes]]:
        """What the answered frames left, in the order of SEQ: (observation_json, decision_json).

        As bytes, since text that is damaged could not be fetched otherwise.
        """
        with explained(self._path):
            return self._connection.execute(
                "SELECT CAST(observation_json AS BLOB), CAST(decision_json AS BLOB) FROM frames "
                "WHERE decision_json NOT NULL ORDER BY seq"
            ).fetchall()

    def counts(self) -> dict[str, int]:
        """Rows by name of state, and `highest_seq`. Reads an index of all rows: not for every frame."""
        with explained(self._path):
            found = dict(self._connection.execute("SELECT state, count(*) FROM frames GROUP BY state"))
        return {
            **{state.value: found.get(state.value, 0) for state in RowState},
            "highest_seq": self.highest_seq(),
        }

    def _run_start(self, up_to_seq: int | None) -> int | None:
        """SEQ of the newest first frame of a run, not newer than `up_to_seq`."""
        limit = 2**62 if up_to_seq is None else up_to_seq
        start: int | None = self._connection.execute(
            "SELECT max(seq) FROM frames WHERE starts_run = 1 AND seq <= ?", (limit,)
        ).fetchone()[0]
        return start

    def _exists(self, where: str, *values: str) -> bool:
        with explained(self._path):
            found = self._connection.execute(f"SELECT 1 FROM frames WHERE {where} LIMIT 1", values)  # noqa: S608
            return found.fetchone() is not None

    def _is_known(self, cursor: sqlite3.Cursor, frame: Claim | Rejection) -> bool:
        values = {
            "id": getattr(frame, "id", None),
            "stem": _storable(frame.stem),
            "image_digest": frame.image_digest,
            "text_digest": frame.text_digest,
        }
        found = cursor.execute(f"SELECT 1 FROM frames WHERE id = :id OR ({_SAME_FRAME}) LIMIT 1", values)  # noqa: S608
        return found.fetchone() is not None

    def _insert(self, cursor: sqlite3.Cursor, frame: Claim | Rejection, *, state: RowState, seq: int | None) -> int:
        values: dict[str, Any] = {key: _storable(value) for key, value in asdict(frame).items()}
        values["fingerprint"] = json.dumps(frame.fingerprint)
        values["moves"] = json.dumps([astuple(move) for move in frame.moves])
        values |= {"state": state.value, "seq": seq, "taken_at": self._now().isoformat()}
        names = ", ".join(values)
        marks = ", ".join(f":{name}" for name in values)
        cursor.execute(f"INSERT INTO frames ({names}) VALUES ({marks})", values)  # noqa: S608
        row = cursor.lastrowid
        assert row is not None  # noqa: S101 - an INSERT has one
        return row

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        with explained(self._path):
            cursor = self._connection.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    cursor.execute("ROLLBACK")
                raise

    @contextmanager
    def _synced_if(self, synced: bool) -> Iterator[None]:
        """Commits inside are written; unless synced, only the next durable commit makes them durable."""
        with explained(self._path):
            if not synced:
                self._connection.execute("PRAGMA synchronous = NORMAL")
            try:
                yield
            finally:
                self._connection.execute("PRAGMA synchronous = FULL")

    @staticmethod
    def _require_change(cursor: sqlite3.Cursor, message: str) -> None:
        if cursor.rowcount != 1:
            raise LedgerError(message)


def _storable(value: Any) -> Any:
    r"""File names whose bytes are not UTF-8 come with lone surrogates, which SQLite refuses: escape them."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _row(values: tuple[Any, ...]) -> LedgerRow:
    named = dict(zip((field.name for field in fields(LedgerRow)), values, strict=True))
    named["state"] = RowState(named["state"])
    named["fingerprint"] = tuple(tuple(part) for part in json.loads(named["fingerprint"]))
    named["moves"] = tuple(Move(*pair) for pair in json.loads(named["moves"]))
    return LedgerRow(**named)
