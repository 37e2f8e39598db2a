"""One frame from claim to published action, each step durable before the next.

The order: the claim is in the ledger; the files are where they belong; the decision is in the ledger; the action
file has its name; the ledger says so. A crash anywhere in between is finished after the restart by walking what
is left of that path, so that every frame ends exactly once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from semd.daemon.records import (
    action_of,
    decision_to_json,
    observation_to_json,
    rebuild_run,
)
from semd.domain.action import Action, Status
from semd.domain.axes import Parameters
from semd.domain.identity import action_id, digest
from semd.domain.run import Run, advance
from semd.errors import FrameError
from semd.inbox.consume import put_aside, write_reason
from semd.inbox.frame import LoadedFrame, Rejection
from semd.outbox.ledger import Ledger
from semd.outbox.recovery import publish_row
from semd.outbox.rows import Claim, Fingerprint, LedgerRow, Move, RowState
from semd.outbox.rows import Rejection as RejectionClaim
from semd.outbox.spool import Spool
from semd.pipeline import Answer


@dataclass(frozen=True, slots=True)
class Places:
    """Where a frame's files go.

    Attributes:
        archive: where taken pairs go, or None when they stay (layout `series`).
        quarantine: where unusable files go.
    """

    archive: Path | None
    quarantine: Path


_LONGEST_STEM = 180

Reload = Callable[[LedgerRow], LoadedFrame]
"""Reads a taken frame again, after a crash, from where its files are now."""


class AnswerSource(Protocol):
    """What answers frames: the pipeline, or a sweep that knows where to go next."""

    @property
    def models_digest(self) -> str:
        """Enters every action's id."""

    def answer(self, run: Run | None, stem: str, parameters: Parameters, image: NDArray[np.uint8] | None) -> Answer:
        """Measure a frame and decide, given the run so far; `image` is None when it was unusable."""


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
        self._log = structlog.get_logger()
        self.answered = 0
        self.quarantined = 0
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
        key = digest(f"{rejection.image_digest}{rejection.text_digest}".encode())[:8]
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
        number = self._ledger.reject(claim)
        if number is None:
            self._log.info("frame.repeated", frame=rejection.stem, error=error.code)
            self._put_aside(self._moves(rejection.paths, self._places.quarantine, f"again-{key}"), replace=True)
            return
        for row in self._ledger.unfinished():
            if row.row == number:
                self._finish_rejection(row)

    def _claim(self, frame: LoadedFrame, fingerprint: Fingerprint) -> LedgerRow | None:
        """Take the frame; None when it was taken before."""
        identity = action_id(frame.stem, frame.image_digest, frame.text_digest, self._pipeline.models_digest)
        paths = [path for path in (frame.image_path, frame.text_path) if path is not None]
        moves: tuple[Move, ...] = ()
        if frame.image_error is not None:
            moves = self._moves(paths, self._places.quarantine, identity[:8])
        elif self._places.archive is not None:
            # One thread writes the ledger, so the SEQ it will allot is known.
            ordinal = self._ledger.highest_seq() + 1
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
        seq = self._ledger.claim(claim)
        if seq is None:
            self._log.info("frame.repeated", frame=frame.stem, id=identity)
            # NanoStation waits for the pair to be taken, also when it has saved the same one again.
            self._put_aside(self._moves(paths, self._places.archive, f"again-{identity[:8]}"), replace=True)
            return None
        return _row_of(claim, seq)

    def _finish_frame(self, row: LedgerRow, seq: int, frame: LoadedFrame) -> None:
        self._put_aside(row.moves)
        if row.reason_code is not None:
            self._write_reason(row)
        answer = self._pipeline.answer(self._run, frame.stem, frame.parameters, frame.image)
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
        self._run = advance(self._run, answer.observation, answer.decision)
        path = publish_row(self._ledger, self._spool, decided, self._build)
        self.answered += 1
        self.last = (frame.stem, answer.decision.status)
        self._log.info("frame.answered", id=row.id, seq=row.seq, action=path.name, **_event(frame, answer))

    def _answer_again(self, row: LedgerRow, seq: int) -> None:
        try:
            frame = self._reload(row)
        except FrameError as error:
            self._ledger.abandon(seq, error.code, error.message)
            self._log.error("frame.lost", frame=row.stem, error=error.code, reason=error.message)
            return
        self._finish_frame(row, seq, frame)

    def _finish_rejection(self, row: LedgerRow) -> None:
        self._put_aside(row.moves)
        self._write_reason(row)
        self._ledger.quarantined(row.row)
        self.quarantined += 1
        self._log.warning(
            "frame.quarantined", frame=row.stem, error=row.reason_code, reason=row.reason_text,
            files=[Path(move.target).name for move in row.moves],
        )  # fmt: skip

    def _put_aside(self, moves: tuple[Move, ...], *, replace: bool = False) -> None:
        gone = put_aside(((Path(move.source), Path(move.target)) for move in moves), replace=replace)
        if gone:
            self._log.warning("frame.files-gone", files=[path.name for path in gone])

    def _write_reason(self, row: LedgerRow) -> None:
        write_reason(Path(row.moves[0].target), row.stem, row.reason_code or "", row.reason_text or "", self._now())

    def _build(self, row: LedgerRow) -> Action:
        return action_of(row, self._now(), self._lifetime)

    @staticmethod
    def _moves(paths: list[Path], directory: Path | None, prefix: str) -> tuple[Move, ...]:
        """Where files go: `<prefix>~<name>`, whatever was in the name made harmless."""
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


def _event(frame: LoadedFrame, answer: Answer) -> dict[str, object]:
    """Everything worth grepping for about one frame."""
    observation, decision = answer.observation, answer.decision
    parameters, measured = observation.parameters, observation.measurement
    event: dict[str, object] = {
        "frame": frame.stem,
        "status": str(decision.status),
        "reason": str(decision.reason),
        "step": decision.step,
        "starts_run": decision.starts_run,
        "mag": parameters.magnification,
        "wd_mm": parameters.wd_mm,
        "brightness": parameters.brightness,
        "contrast": parameters.contrast,
        "reward": decision.reward,
        "targets": {str(axis): value for axis, value in decision.targets.items()},
        "deltas": {str(axis): value for axis, value in decision.deltas.items()},
        "scoring_ms": round(answer.scoring_ms, 3),
        "features_ms": round(answer.features_ms, 3),
        "control_ms": round(answer.control_ms, 3),
    }
    if measured is not None:
        event |= {
            "score": round(measured.score, 4),
            "sigma": round(measured.sigma, 4),
            "doubts": [str(doubt) for doubt in measured.doubts],
            "avg": round(measured.features.avg, 3),
            "grd": measured.features.grd,
            "var": round(measured.features.var, 3),
            "exposure": {key: round(value, 4) for key, value in asdict(measured.exposure).items()},
        }
    if frame.image_error is not None:
        event |= {"error": frame.image_error.code, "message": frame.image_error.message}
    return event
