"""One frame from claim to published action, each step durable before the next.

The order: the claim is in the ledger; the files are where they belong; the decision is in the ledger; the action
file has its name; the ledger says so. A crash anywhere in between is finished after the restart by walking the rest of
that path, so that every frame ends exactly once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from semd.daemon.answered_event import answered_event
from semd.daemon.asking import AnswerSource, ask
from semd.daemon.claiming import FrameClaims
from semd.daemon.frame_files import FrameFiles, FrameFolders
from semd.daemon.records import (
    action_of,
    decision_to_json,
    observation_to_json,
    rebuild_run,
)
from semd.daemon.rejecting import Rejections
from semd.decision.run import Run, advance
from semd.errors import AnswerFailedError, FrameError
from semd.inbox.frame import LoadedFrame, RejectedFrame
from semd.outbox.ledger import Ledger
from semd.outbox.recovery import publish_row
from semd.outbox.rows import Fingerprint, LedgerRow, Move, RowState
from semd.outbox.spool import Spool
from semd.pipeline import Answer
from semd.protocol.action import Action, Status
from semd.service.failpoints import Failpoint, reach

Reload = Callable[[LedgerRow], LoadedFrame]
"""Reads a taken frame again, after a crash, from where its files are now."""

_MAX_STARTS = 3
"""Processes that may end in one frame before it is taken for the cause."""


class Answerer:
    """Answers frames one by one; remembers the present run.

    Args:
        pipeline: source of the answers.
        ledger, spool: of the outbox.
        folders: folders that files go to.
        lifetime: of an action.
        now: the clock, UTC.
        reload: reads a taken frame again.
    """

    def __init__(
        self,
        pipeline: AnswerSource,
        ledger: Ledger,
        spool: Spool,
        folders: FrameFolders,
        *,
        lifetime: timedelta,
        now: Callable[[], datetime],
        reload: Reload,
    ) -> None:
        self._pipeline = pipeline
        self._ledger = ledger
        self._spool = spool
        self._files = FrameFiles(folders, now)
        self._claims = FrameClaims(ledger, self._files, pipeline.models_digest)
        self._rejections = Rejections(ledger, self._files)
        self._lifetime = lifetime
        self._now = now
        self._reload = reload
        self._run: Run | None = None
        self._started: set[int] = set()
        self._log = structlog.get_logger()
        self.answered = 0
        self.failed_in_a_row = 0
        self.last: tuple[str, Status] | None = None

    @property
    def models_digest(self) -> str:
        """Digest of the models that answer."""
        return self._pipeline.models_digest

    @property
    def quarantined(self) -> int:
        """Number of rejections filed by this process."""
        return self._rejections.quarantined

    def recover(self) -> None:
        """Finish the frames that were left half-way, and take up the run; also after a failed write.

        Raises:
            StorageError, LedgerError: it still cannot be finished; nothing is lost, call again.
        """
        self._run = rebuild_run(self._ledger.current_run())
        for row in self._ledger.unfinished():
            self._log.info("frame.resumed", frame=row.stem, state=str(row.state), seq=row.seq)
            reach(Failpoint.RESUMED)
            if row.state is RowState.QUARANTINING:
                self._rejections.finish(row)
            elif row.state is RowState.DECIDED:
                publish_row(self._ledger, self._spool, row, self._build)
            elif row.seq is not None:
                self._answer_again(row, row.seq)

    def answer(self, frame: LoadedFrame, fingerprint: Fingerprint) -> None:
        """Answer a complete frame, unless it was answered before.

        Raises:
            StorageError, LedgerError: a write failed; `recover` finishes the frame.
        """
        row = self._claims.claim(frame, fingerprint)
        if row is not None and row.seq is not None:
            self._started.add(row.seq)
            self._finish_frame(row, row.seq, frame)

    def reject(self, rejection: RejectedFrame, fingerprint: Fingerprint) -> None:
        """Move a frame that cannot be answered to quarantine.

        Raises:
            StorageError, LedgerError: a write failed; `recover` finishes it.
        """
        self._rejections.reject(rejection, fingerprint)

    def _finish_frame(self, row: LedgerRow, seq: int, frame: LoadedFrame) -> None:
        self._files.file_frame(row)
        answer = ask(self._pipeline, self._run, frame)
        if isinstance(answer, AnswerFailedError) and frame.image is not None:
            row, frame = self._quarantine_failed(row, seq, frame, answer)
            answer = ask(self._pipeline, self._run, frame)
        if isinstance(answer, AnswerFailedError):  # not even HOLD could be answered
            self._abandon(row, seq, answer)
            return
        reach(Failpoint.JUDGED)
        self._publish(row, seq, frame, answer)

    def _publish(self, row: LedgerRow, seq: int, frame: LoadedFrame, answer: Answer) -> None:
        """Write the decision into the ledger, then the action file."""
        observation = observation_to_json(answer.observation)
        decision = decision_to_json(answer.decision)
        self._ledger.decide(
            seq,
            observation,
            decision,
            starts_run=answer.decision.starts_run,
            is_hold=answer.decision.status is Status.HOLD,
        )
        reach(Failpoint.DECIDED)
        self._started.discard(seq)
        self.failed_in_a_row = self.failed_in_a_row + 1 if row.reason_code == AnswerFailedError.code else 0
        self._run = advance(self._run, answer.observation, answer.decision)
        decided = replace(row, state=RowState.DECIDED, observation_json=observation, decision_json=decision)
        path = publish_row(self._ledger, self._spool, decided, self._build)
        self.answered += 1
        self.last = (frame.stem, answer.decision.status)
        self._log.info("frame.answered", id=row.id, seq=row.seq, action=path.name, **answered_event(frame, answer))
        if answer.assessment is not None:
            self._log.debug("frame.assessed", frame=frame.stem, seq=row.seq, **answer.assessment.as_event())

    def _answer_again(self, row: LedgerRow, seq: int) -> None:
        """Answer a frame that was claimed and not decided, from where its files are now."""
        starts = 0
        if seq not in self._started:
            self._started.add(seq)
            starts = self._ledger.count_start(seq)
        try:
            frame = self._reload(row)
        except FrameError as error:
            self._abandon(row, seq, error)
            return
        if starts >= _MAX_STARTS and frame.image is not None:
            failed = AnswerFailedError(f"{starts} processes ended while answering it")
            row, frame = self._quarantine_failed(row, seq, frame, failed)
        self._finish_frame(row, seq, frame)

    def _quarantine_failed(
        self, row: LedgerRow, seq: int, frame: LoadedFrame, error: AnswerFailedError
    ) -> tuple[LedgerRow, LoadedFrame]:
        """Quarantine a frame that the machines fail on; the rest of it is answered like a frame without an image."""
        cause = error.__cause__
        self._log.error("frame.failed", frame=row.stem, error=error.code, reason=error.message, exc_info=cause)
        # Taken files go on from where they were put, all others from where they lie.
        own = [Path(name) for name in (row.image_name, row.text_name) if name is not None]
        named = self._files.to_quarantine(own, (row.id or "")[:8])
        paths = (frame.image_path, frame.text_path)
        sources = [move.target for move in row.moves] or [str(path) for path in paths if path is not None]
        moves = tuple(Move(source, name.target) for source, name in zip(sources, named, strict=True))
        self._ledger.fail(seq, error.code, error.message, moves)
        row = replace(row, reason_code=error.code, reason_text=error.message, moves=moves)
        self._files.file_frame(row)
        return row, replace(frame, image=None, image_error=error)

    def _abandon(self, row: LedgerRow, seq: int, error: FrameError) -> None:
        """End a frame that cannot be answered any more."""
        self._ledger.abandon(seq, error.code, error.message)
        self._started.discard(seq)
        self._log.error("frame.lost", frame=row.stem, error=error.code, reason=error.message)

    def _build(self, row: LedgerRow) -> Action:
        return action_of(row, self._now(), self._lifetime)
