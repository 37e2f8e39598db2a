"""One frame from claim to published action, each step durable before the next.

The order: the claim is in the ledger; the files are where they belong; the decision is in the ledger; the action
file has its name; the ledger says so. A crash anywhere in between is finished after the restart by walking what
is left of that path, so that every frame ends exactly once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from semd.daemon.answered_event import answered_event
from semd.daemon.asking import AnswerSource, ask
from semd.daemon.records import (
    action_of,
    decision_to_json,
    observation_to_json,
    rebuild_run,
)
from semd.decision.run import Run, advance
from semd.errors import (
    AnswerFailedError,
    FileLinkError,
    FileUnreadableError,
    FrameError,
    HalfMissingError,
    StorageError,
)
from semd.inbox.consume import put_aside, write_reason
from semd.inbox.frame import LoadedFrame, Rejection
from semd.outbox.ledger import Ledger
from semd.outbox.recovery import publish_row
from semd.outbox.rows import Claim, Fingerprint, LedgerRow, Move, RowState
from semd.outbox.rows import Rejection as RejectionClaim
from semd.outbox.spool import Spool
from semd.protocol.action import Action, Status
from semd.protocol.identity import action_id, digest, unique_stem
from semd.service.failpoints import Failpoint, reach
from semd.service.storage import storage_error


@dataclass(frozen=True, slots=True)
class Places:
    """Folders that a frame's files go to.

    Attributes:
        archive: where taken pairs go, or None when they stay (layout `series`).
        quarantine: where unusable files go.
    """

    archive: Path | None
    quarantine: Path

    def highest_archived(self) -> int:
        """The highest SEQ that names an archived file; 0 when there is none.

        Raises:
            StorageError: the archive cannot be read.
        """
        if self.archive is None or not self.archive.is_dir():
            return 0
        try:
            with os.scandir(self.archive) as entries:
                found = (_ARCHIVED.match(entry.name) for entry in entries)
                return max((int(name[1]) for name in found if name is not None), default=0)
        except OSError as error:
            raise storage_error(self.archive, "read", error) from error


_LONGEST_STEM = 180
_ARCHIVED = re.compile(r"([0-9]{8,18})~")

Reload = Callable[[LedgerRow], LoadedFrame]
"""Reads a taken frame again, after a crash, from where its files are now."""


_MOST_STARTS = 3
"""So often a process takes up a frame that another has left in hand; ending it each time is no chance then."""


class Answerer:
    """Answers frames one by one; remembers the present run.

    Args:
        pipeline: what answers the frames.
        ledger, spool: of the outbox.
        places: where files go.
        lifetime: of an action.
        now: the clock, UTC.
        reload: reads a taken frame again.
    """

    def __init__(
        self,
        pipeline: AnswerSource,
        ledger: Ledger,
        spool: Spool,
        places: Places,
        *,
        lifetime: timedelta,
        now: Callable[[], datetime],
        reload: Reload,
    ) -> None:
        self._pipeline = pipeline
        self._ledger = ledger
        self._spool = spool
        self._places = places
        self._lifetime = lifetime
        self._now = now
        self._reload = reload
        self._run: Run | None = None
        self._in_hand: set[int] = set()
        self._log = structlog.get_logger()
        self.answered = 0
        self.quarantined = 0
        self.failed_in_a_row = 0
        self.last: tuple[str, Status] | None = None

    @property
    def models_digest(self) -> str:
        """Of the models that answer."""
        return self._pipeline.models_digest

    def recover(self) -> None:
        """Finish what was left half-way, and take up the run; also after a failed write.

        Raises:
            StorageError, LedgerError: it still cannot be finished; nothing is lost, call again.
        """
        self._run = rebuild_run(self._ledger.current_run())
        for row in self._ledger.unfinished():
            self._log.info("frame.resumed", frame=row.stem, state=str(row.state), seq=row.seq)
            reach(Failpoint.RESUMED)
            if row.state is RowState.QUARANTINING:
                self._finish_rejection(row)
            elif row.state is RowState.DECIDED:
                publish_row(self._ledger, self._spool, row, self._build)
            elif row.seq is not None:
                self._answer_again(row, row.seq)

    def answer(self, frame: LoadedFrame, fingerprint: Fingerprint) -> None:
        """Answer a complete frame, unless it was answered before.

        Raises:
            StorageError, LedgerError: a write failed; `recover` finishes the frame.
        """
        row = self._claim(frame, fingerprint)
        if row is not None and row.seq is not None:
            self._finish_frame(row, row.seq, frame)

    def reject(self, rejection: Rejection, fingerprint: Fingerprint) -> None:
        """Move a frame that cannot be answered to quarantine.

        Raises:
            StorageError, LedgerError: a write failed; `recover` finishes it.
        """
        error = rejection.error
        is_unread = isinstance(error, FileUnreadableError | FileLinkError)
        known_by = fingerprint if is_unread else f"{rejection.image_digest}{rejection.text_digest}"
        key = digest(str(known_by).encode("utf-8", "surrogateescape"))[:8]
        if isinstance(error, HalfMissingError) and self._is_late(rejection):
            self._log.warning("frame.late-half", frame=rejection.stem, files=[path.name for path in rejection.paths])
            self._put_aside(self._moves(rejection.paths, self._places.quarantine, f"late-{key}"), replace=True)
            return
        claim = RejectionClaim(
            stem=rejection.stem,
            image_name=rejection.image_path.name if rejection.image_path else None,
            text_name=rejection.text_path.name if rejection.text_path else None,
            image_digest=rejection.image_digest,
            text_digest=rejection.text_digest,
            fingerprint=fingerprint,
            reason_code=error.code,
            reason_text=error.message,
            moves=self._moves(rejection.paths, self._places.quarantine, key),
        )
        number = self._ledger.reject(claim, is_arrival=is_unread)
        if number is None:
            self._log.info("frame.repeated", frame=rejection.stem, error=error.code)
            self._put_aside(self._moves(rejection.paths, self._places.quarantine, f"again-{key}"), replace=True)
            return
        reach(Failpoint.REJECTED)
        for row in self._ledger.unfinished():
            if row.row == number:
                self._finish_rejection(row)

    def _is_late(self, rejection: Rejection) -> bool:
        """Return True if a lone half belongs to a frame that has had its quarantine record.

        In layout `series` the stem says so. In `single` all frames share theirs, so only one half ever counts as
        the one that the last frame had lacked.
        """
        row = self._ledger.newest(rejection.stem)
        if row is None or row.reason_code is None or row.state not in (RowState.QUARANTINED, RowState.PUBLISHED):
            return False
        image, text = rejection.image_path, rejection.text_path
        was_lacking = (image is None or row.image_name is None) and (text is None or row.text_name is None)
        if was_lacking:
            self._ledger.add_half(row.row, image.name if image else None, text.name if text else None)
        return was_lacking or self._places.archive is None

    def _claim(self, frame: LoadedFrame, fingerprint: Fingerprint) -> LedgerRow | None:
        """Take the frame; None when it was taken before."""
        is_again = (
            self._places.archive is not None
            and self._ledger.knows_frame(frame.stem, frame.image_digest, frame.text_digest)
            # Its files were taken away, so what lies there now was saved anew, unless it looks the same to the instant.
            and not self._ledger.knows(fingerprint)
        )
        # One thread writes the ledger, so the SEQ it will allot is known.
        ordinal = self._ledger.highest_seq() + 1
        stem = unique_stem(frame.stem, ordinal) if is_again else frame.stem
        identity = action_id(stem, frame.image_digest, frame.text_digest, self._pipeline.models_digest)
        paths = [path for path in (frame.image_path, frame.text_path) if path is not None]
        moves: tuple[Move, ...] = ()
        if frame.image_error is not None:
            moves = self._moves(paths, self._places.quarantine, identity[:8])
        elif self._places.archive is not None:
            moves = self._moves(paths, self._places.archive, f"{ordinal:08d}")
        elif self._ledger.known_image(frame.stem, frame.image_digest):
            self._log.info("frame.repeated", frame=frame.stem)
            self._ledger.set_fingerprint(frame.stem, frame.image_digest, frame.text_digest, fingerprint)
            return None
        claim = Claim(
            stem=frame.stem,
            id=identity,
            image_name=frame.image_path.name,
            text_name=frame.text_path.name if frame.text_path else None,
            image_digest=frame.image_digest,
            text_digest=frame.text_digest,
            fingerprint=fingerprint,
            moves=moves,
            reason_code=frame.image_error.code if frame.image_error else None,
            reason_text=frame.image_error.message if frame.image_error else None,
        )
        seq = self._ledger.claim(claim, is_arrival=is_again)
        if seq is None:
            self._log.info("frame.repeated", frame=frame.stem, id=identity)
            # NanoStation waits for the pair to be taken, also when it has saved the same one again.
            self._put_aside(self._moves(paths, self._places.archive, f"again-{identity[:8]}"), replace=True)
            return None
        reach(Failpoint.CLAIMED)
        self._in_hand.add(seq)
        if is_again:
            self._log.warning("frame.identical", frame=frame.stem, id=identity, seq=seq)
        return _row_of(claim, seq)

    def _finish_frame(self, row: LedgerRow, seq: int, frame: LoadedFrame) -> None:
        self._file_away(row)
        answer = ask(self._pipeline, self._run, frame)
        if isinstance(answer, AnswerFailedError) and frame.image is not None:
            row, frame = self._set_aside(row, seq, frame, answer)
            answer = ask(self._pipeline, self._run, frame)
        if isinstance(answer, AnswerFailedError):  # not even HOLD could be said
            self._abandon(row, seq, answer)
            return
        reach(Failpoint.JUDGED)
        decided = replace(
            row,
            state=RowState.DECIDED,
            observation_json=observation_to_json(answer.observation),
            decision_json=decision_to_json(answer.decision),
        )
        self._ledger.decide(
            seq,
            observation_to_json(answer.observation),
            decision_to_json(answer.decision),
            starts_run=answer.decision.starts_run,
            is_hold=answer.decision.status is Status.HOLD,
        )
        reach(Failpoint.DECIDED)
        self._in_hand.discard(seq)
        self.failed_in_a_row = self.failed_in_a_row + 1 if row.reason_code == AnswerFailedError.code else 0
        self._run = advance(self._run, answer.observation, answer.decision)
        path = publish_row(self._ledger, self._spool, decided, self._build)
        self.answered += 1
        self.last = (frame.stem, answer.decision.status)
        self._log.info("frame.answered", id=row.id, seq=row.seq, action=path.name, **answered_event(frame, answer))

    def _answer_again(self, row: LedgerRow, seq: int) -> None:
        starts = 0
        if seq not in self._in_hand:
            self._in_hand.add(seq)
            starts = self._ledger.count_start(seq)
        try:
            frame = self._reload(row)
        except FrameError as error:
            self._abandon(row, seq, error)
            return
        if starts >= _MOST_STARTS and frame.image is not None:
            failed = AnswerFailedError(f"{starts} processes ended while answering it")
            row, frame = self._set_aside(row, seq, frame, failed)
        self._finish_frame(row, seq, frame)

    def _set_aside(
        self, row: LedgerRow, seq: int, frame: LoadedFrame, error: AnswerFailedError
    ) -> tuple[LedgerRow, LoadedFrame]:
        """Quarantine a frame that the machines fail on; what is left of it is answered like one without a picture."""
        cause = error.__cause__
        self._log.error("frame.failed", frame=row.stem, error=error.code, reason=error.message, exc_info=cause)
        # Taken files go on from where they were put, all others from where they lie.
        own = [Path(name) for name in (row.image_name, row.text_name) if name is not None]
        names = self._moves(own, self._places.quarantine, (row.id or "")[:8])
        paths = (frame.image_path, frame.text_path)
        sources = [move.target for move in row.moves] or [str(path) for path in paths if path is not None]
        moves = tuple(Move(source, name.target) for source, name in zip(sources, names, strict=True))
        self._ledger.fail(seq, error.code, error.message, moves)
        row = replace(row, reason_code=error.code, reason_text=error.message, moves=moves)
        self._file_away(row)
        return row, replace(frame, image=None, image_error=error)

    def _abandon(self, row: LedgerRow, seq: int, error: FrameError) -> None:
        self._ledger.abandon(seq, error.code, error.message)
        self._in_hand.discard(seq)
        self._log.error("frame.lost", frame=row.stem, error=error.code, reason=error.message)

    def _file_away(self, row: LedgerRow) -> None:
        """Put a frame's files where they belong, with the reason when that is quarantine."""
        try:
            self._put_aside(row.moves)
        except StorageError as error:
            # Who may not read a file, or finds it held, may be unable to move it as well: it stays, the rest goes on.
            if row.reason_code != FileUnreadableError.code or not isinstance(error.__cause__, PermissionError):
                raise
            self._log.warning("frame.unmovable", frame=row.stem, error=error.code, reason=error.message)
        if row.reason_code is not None:
            self._write_reason(row)

    def _finish_rejection(self, row: LedgerRow) -> None:
        self._file_away(row)
        self._ledger.quarantined(row.row)
        reach(Failpoint.QUARANTINED)
        self.quarantined += 1
        self._log.warning(
            "frame.quarantined", frame=row.stem, error=row.reason_code, reason=row.reason_text,
            files=[Path(move.target).name for move in row.moves],
        )  # fmt: skip

    def _put_aside(self, moves: tuple[Move, ...], *, replace: bool = False) -> None:
        gone = put_aside(((Path(move.source), Path(move.target)) for move in moves), replace=replace)
        reach(Failpoint.FILES_ASIDE)
        if gone:
            self._log.warning("frame.files-gone", files=[path.name for path in gone])

    def _write_reason(self, row: LedgerRow) -> None:
        write_reason(Path(row.moves[0].target), row.stem, row.reason_code or "", row.reason_text or "", self._now())
        reach(Failpoint.REASON_WRITTEN)

    def _build(self, row: LedgerRow) -> Action:
        return action_of(row, self._now(), self._lifetime)

    @staticmethod
    def _moves(paths: list[Path], directory: Path | None, prefix: str) -> tuple[Move, ...]:
        """Moves of files to `<prefix>~<name>`, with the name made harmless."""
        if directory is None:
            return ()
        return tuple(Move(str(path), str(directory / f"{prefix}~{_harmless(path.name)}")) for path in paths)


def _row_of(claim: Claim, seq: int) -> LedgerRow:
    """The row that a claim has just become; its number is not needed to finish it."""
    return LedgerRow(
        row=0,
        state=RowState.TAKEN,
        seq=seq,
        observation_json=None,
        decision_json=None,
        **{field.name: getattr(claim, field.name) for field in fields(claim)},
    )


def _harmless(name: str) -> str:
    """A file name without characters that cannot be shown or that some file system refuses, and not too long.

    What is cut leaves room for what is put before it and for `.reason.txt`; names have at most 255 bytes.
    """
    shown = "".join(letter if letter.isprintable() and letter not in '<>:"|?*\\' else "_" for letter in name)
    stem, dot, suffix = shown.rpartition(".")
    return stem.encode()[:_LONGEST_STEM].decode(errors="ignore") + dot + suffix
