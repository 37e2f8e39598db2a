"""The ledger: one row for each frame, so that each ends exactly once, whatever crashes in between.

TAKEN -> DECIDED -> PUBLISHED for a frame that is answered, QUARANTINING -> QUARANTINED for one that is not.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from semd.errors import LedgerError
from semd.outbox import statements
from semd.outbox.damage import inspect_ledger
from semd.outbox.database import explained, open_database
from semd.outbox.forgetting import (
    EndedRow,
    LedgerSize,
    delete_rows,
    ended_rows,
    give_back,
    newest_left_names,
    size_of,
)
from semd.outbox.rows import (
    Claim,
    Fingerprint,
    LedgerRow,
    Move,
    RejectionClaim,
    RowState,
    moves_json,
    storable,
    stored_row,
)
from semd.service.failpoints import Failpoint, reach


class Ledger:
    """SQLite file of frames; used by one thread of one process.

    Args:
        path: the file; made when missing.
        now: the clock, UTC.
        floor_seq: highest SEQ of any action file found; the next one allotted is higher.

    Raises:
        LedgerDamagedError: the file is damaged, or knows less than `floor_seq`; nothing was changed.
        LedgerError: the file is not a ledger, damaged, locked or of a newer semd (any method).
        StorageError: it cannot be written (any method).
    """

    def __init__(self, path: Path, *, now: Callable[[], datetime], floor_seq: int = 0) -> None:
        self._path = path
        self._now = now
        inspect_ledger(path, floor_seq)
        self._connection = open_database(path)
        with self._transaction() as cursor:
            cursor.execute(statements.RAISE_HIGHEST_SEQ, (floor_seq,))

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

    def claim(self, claim: Claim, *, is_arrival: bool = False) -> int | None:
        """Take a frame and allot its SEQ.

        Durable on return when files are to be moved: where they went must not be forgotten. When they stay,
        the claim is synced together with the decision. A power cut in between takes it back, and the frame
        is found and taken again; its SEQ was on no action file yet.

        Args:
            claim: the frame.
            is_arrival: it is known that the files came anew, so that only a known id makes it a known frame.

        Returns:
            SEQ; or None when this id, or this stem with these very bytes, was taken or rejected before.
        """
        with self._synced_if(bool(claim.moves)), self._transaction() as cursor:
            if self._is_known(cursor, claim, by_id_alone=is_arrival):
                return None
            seq: int = cursor.execute(statements.ALLOT_SEQ).fetchone()[0]
            self._insert(cursor, claim, state=RowState.TAKEN, seq=seq)
        return seq

    def reject(self, rejection: RejectionClaim, *, is_arrival: bool = False) -> int | None:
        """Note that a frame is about to be moved to quarantine; durable on return.

        Args:
            rejection: the frame.
            is_arrival: its bytes could not be read, so that it resembles others of its stem and is none of them.

        Returns:
            The row's number for `quarantined`; or None when this stem with these bytes was seen before.
        """
        with self._transaction() as cursor:
            if self._is_known(cursor, rejection, by_id_alone=is_arrival):
                return None
            return self._insert(cursor, rejection, state=RowState.QUARANTINING, seq=None)

    def decide(self, seq: int, observation_json: str, decision_json: str, *, starts_run: bool, is_hold: bool) -> None:
        """Keep the answer to a taken frame; durable on return, so that a crash cannot change it.

        Args:
            seq: of the frame.
            observation_json: kept as it is, for `current_run` and for recovery.
            decision_json: likewise.
            starts_run: True where a run begins with this frame.
            is_hold: True where the answer is HOLD.
        """
        with self._transaction() as cursor:
            cursor.execute(
                statements.DECIDE,
                (observation_json, decision_json, int(starts_run), int(is_hold), seq),
            )
            self._require_change(cursor, f"SEQ {seq} is not a taken frame")
            cursor.execute(statements.DROP_STARTS, (seq,))

    def published(self, seq: int, issued: datetime, expires: datetime) -> None:
        """Note that the action file is there.

        This commit is not synced to the disk. A power cut may take it back; the row is DECIDED then, and
        recovery finds the action file, which is the durable fact, and comes here again.
        """
        with self._synced_if(False), self._transaction() as cursor:
            cursor.execute(
                statements.PUBLISH,
                (issued.isoformat(), expires.isoformat(), self._now().isoformat(), seq),
            )
            self._require_change(cursor, f"SEQ {seq} is not a decided frame")

    def abandon(self, seq: int, reason_code: str, reason_text: str) -> None:
        """End a taken frame in quarantine: its files are gone, it cannot be answered any more."""
        with self._transaction() as cursor:
            cursor.execute(
                statements.ABANDON,
                (reason_code, reason_text, self._now().isoformat(), seq),
            )
            self._require_change(cursor, f"SEQ {seq} is not a taken frame")

    def quarantined(self, row: int) -> None:
        """Note that the files of a rejected frame lie in quarantine. Not synced: moving is idempotent."""
        with self._synced_if(False), self._transaction() as cursor:
            cursor.execute(statements.QUARANTINE, (self._now().isoformat(), row))
            self._require_change(cursor, f"row {row} is not on its way to quarantine")

    def set_fingerprint(
        self, stem: str, image_digest: str | None, text_digest: str | None, fingerprint: Fingerprint
    ) -> bool:
        """Store the new fingerprint of files that were rewritten with the same bytes.

        Returns:
            Whether such a frame is known.
        """
        with self._synced_if(False), self._transaction() as cursor:
            cursor.execute(
                statements.SET_FINGERPRINT,
                {
                    "fingerprint": json.dumps(fingerprint),
                    "stem": storable(stem),
                    "image_digest": image_digest,
                    "text_digest": text_digest,
                },
            )
            return cursor.rowcount > 0

    def knows(self, fingerprint: Fingerprint) -> bool:
        """Return True if files that look like this were taken or rejected; one look-up, no file is read."""
        return self._exists(statements.HAS_FINGERPRINT, (json.dumps(fingerprint),))

    def knows_frame(self, stem: str, image_digest: str, text_digest: str) -> bool:
        """Return True if this stem with these very bytes was taken or rejected."""
        values = {"stem": storable(stem), "image_digest": image_digest, "text_digest": text_digest}
        return self._exists(statements.HAS_FRAME, values)

    def newest(self, stem: str) -> LedgerRow | None:
        """The frame of this stem that was taken or rejected last; None when there is none."""
        with explained(self._path):
            found = self._connection.execute(statements.NEWEST_OF_STEM, (storable(stem),)).fetchone()
            return stored_row(found) if found is not None else None

    def add_missing_file(self, row: int, image_name: str | None, text_name: str | None) -> None:
        """Note that the missing file of a quarantined frame has come. Not synced, since moving it is idempotent."""
        with self._synced_if(False), self._transaction() as cursor:
            cursor.execute(statements.ADD_MISSING_NAMES, (storable(image_name), storable(text_name), row))
            self._require_change(cursor, f"there is no row {row}")

    def count_start(self, seq: int) -> int:
        """Count a process that takes up a frame which another left unfinished; durable on return.

        Returns:
            How often that has happened to this frame.
        """
        with self._transaction() as cursor:
            times: int = cursor.execute(statements.COUNT_START, (seq,)).fetchone()[0]
            return times

    def fail(self, seq: int, reason_code: str, reason_text: str, moves: tuple[Move, ...]) -> None:
        """Note that a taken frame could not be scored or decided on, and goes to quarantine; durable on return."""
        with self._transaction() as cursor:
            cursor.execute(statements.FAIL, (reason_code, storable(reason_text), moves_json(moves), seq))
            self._require_change(cursor, f"SEQ {seq} is not a taken frame")

    def known_image(self, stem: str, image_digest: str) -> bool:
        """Return True if a frame with this image was taken and not lost; a late edit of its text makes no new frame."""
        return self._exists(statements.HAS_IMAGE, (storable(stem), image_digest))

    def unfinished(self) -> list[LedgerRow]:
        """Rows that a crash left half-way (TAKEN, DECIDED, QUARANTINING), in the order of taking."""
        with explained(self._path):
            rows = self._connection.execute(statements.UNFINISHED)
            return [stored_row(values) for values in rows.fetchall()]

    def current_run(self) -> list[tuple[str, str]]:
        """Records that rebuild the present run: (observation_json, decision_json), oldest first.

        HOLDs in a row are counted across runs; so where HOLDs lead up to the run's first frame, the run
        before it is given as well.
        """
        with explained(self._path):
            first = self._first_needed()
            if first is None:
                return []
            return self._connection.execute(statements.RECORDS_SINCE, (first,)).fetchall()

    def highest_seq(self) -> int:
        """The newest SEQ allotted, or the floor; 0 when there is none."""
        with explained(self._path):
            highest: int = self._connection.execute(statements.HIGHEST_SEQ).fetchone()[0]
            return highest

    def answered(self) -> list[LedgerRow]:
        """Rows of all answered frames, in the order of SEQ."""
        with explained(self._path):
            rows = self._connection.execute(statements.ANSWERED)
            return [stored_row(values) for values in rows.fetchall()]

    def answers(self) -> list[tuple[bytes | None, bytes]]:
        """Records of the answered frames in the order of SEQ: (observation_json, decision_json).

        As bytes, since text that is damaged could not be fetched otherwise.
        """
        with explained(self._path):
            return self._connection.execute(statements.ANSWERS_AS_BYTES).fetchall()

    def counts(self) -> dict[str, int]:
        """Rows by name of state, and `highest_seq`. Reads an index of all rows: not for every frame."""
        with explained(self._path):
            found = dict(self._connection.execute(statements.COUNT_BY_STATE))
        return {
            **{state.value: found.get(state.value, 0) for state in RowState},
            "highest_seq": self.highest_seq(),
        }

    def ended_rows(self, after_row: int, most: int) -> list[EndedRow]:
        """Rows behind `after_row` that have ended and that the present run does not need, in the order of taking."""
        with explained(self._path):
            return ended_rows(self._connection, after_row=after_row, before_seq=self._first_needed(), most=most)

    def newest_left_names(self) -> tuple[str, ...]:
        """File names of the newest frame whose files stayed in the watch directory; empty when there is none."""
        with explained(self._path):
            return newest_left_names(self._connection)

    def forget(self, rows: Sequence[int]) -> int:
        """Delete rows that have ended. Their frames count as new if they come again; their SEQ stays used.

        Not synced: a power cut that brings them back does no harm.

        Returns:
            How many were deleted.
        """
        with self._synced_if(False), self._transaction() as cursor:
            return delete_rows(cursor, rows)

    def size(self) -> LedgerSize:
        """Number of rows and bytes. Reads an index of all rows, so it is not for every frame."""
        with explained(self._path):
            return size_of(self._connection)

    def give_back(self, most_pages: int) -> bool:
        """Return the space of deleted rows to the disk; True where there is more."""
        with explained(self._path):
            return give_back(self._connection, most_pages)

    def _first_needed(self) -> int | None:
        """SEQ of the oldest frame that the present run is rebuilt from; None when there is no run."""
        first = self._run_start(None)
        while first is not None:
            before = self._connection.execute(statements.ANSWER_BEFORE, (first,)).fetchone()
            earlier = self._run_start(before[0]) if before is not None and before[1] else None
            if earlier is None:
                break
            first = earlier
        return first

    def _run_start(self, up_to_seq: int | None) -> int | None:
        """SEQ of the newest first frame of a run, not newer than `up_to_seq`."""
        limit = 2**62 if up_to_seq is None else up_to_seq
        start: int | None = self._connection.execute(statements.NEWEST_RUN_START, (limit,)).fetchone()[0]
        return start

    def _exists(self, statement: str, values: tuple[str, ...] | dict[str, str]) -> bool:
        with explained(self._path):
            return self._connection.execute(statement, values).fetchone() is not None

    def _is_known(self, cursor: sqlite3.Cursor, frame: Claim | RejectionClaim, *, by_id_alone: bool = False) -> bool:
        values = {
            "id": getattr(frame, "id", None),
            "stem": storable(frame.stem),
            "image_digest": frame.image_digest,
            "text_digest": frame.text_digest,
        }
        statement = statements.HAS_ID if by_id_alone else statements.HAS_ID_OR_FRAME
        return cursor.execute(statement, values).fetchone() is not None

    def _insert(
        self, cursor: sqlite3.Cursor, frame: Claim | RejectionClaim, *, state: RowState, seq: int | None
    ) -> int:
        values: dict[str, Any] = {"id": None} | {key: storable(value) for key, value in asdict(frame).items()}
        values["fingerprint"] = json.dumps(frame.fingerprint)
        values["moves"] = moves_json(frame.moves)
        values |= {"state": state.value, "seq": seq, "taken_at": self._now().isoformat()}
        cursor.execute(statements.INSERT_FRAME, values)
        row = cursor.lastrowid
        assert row is not None  # noqa: S101 - an INSERT has one
        return row

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        with explained(self._path):
            cursor = self._connection.cursor()
            cursor.execute(statements.BEGIN)
            try:
                yield cursor
                reach(Failpoint.LEDGER_COMMIT)
                cursor.execute(statements.COMMIT)
            except BaseException:
                if self._connection.in_transaction:
                    cursor.execute(statements.ROLLBACK)
                raise

    @contextmanager
    def _synced_if(self, synced: bool) -> Iterator[None]:
        """Commits inside are written; unless synced, only the next durable commit makes them durable."""
        with explained(self._path):
            if not synced:
                self._connection.execute(statements.SYNC_LATER)
            try:
                yield
            finally:
                self._connection.execute(statements.SYNC_EVERY_COMMIT)

    @staticmethod
    def _require_change(cursor: sqlite3.Cursor, message: str) -> None:
        if cursor.rowcount != 1:
            raise LedgerError(message)
