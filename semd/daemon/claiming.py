"""Claim a frame in the ledger, unless it was taken before."""

from __future__ import annotations

from dataclasses import fields

import structlog

from semd.daemon.frame_files import FrameFiles
from semd.inbox.frame import LoadedFrame
from semd.outbox.ledger import Ledger
from semd.outbox.rows import Claim, Fingerprint, LedgerRow, Move, RowState
from semd.protocol.identity import action_id, unique_stem
from semd.service.failpoints import Failpoint, reach


class FrameClaims:
    """Recognises repeated frames, and gives each new one its SEQ and its id.

    Args:
        ledger: of the outbox.
        files: of the frames.
        models_digest: part of every id.
    """

    def __init__(self, ledger: Ledger, files: FrameFiles, models_digest: str) -> None:
        self._ledger = ledger
        self._files = files
        self._models_digest = models_digest
        self._log = structlog.get_logger()

    def claim(self, frame: LoadedFrame, fingerprint: Fingerprint) -> LedgerRow | None:
        """Take the frame; None when it was taken before.

        Raises:
            StorageError, LedgerError: a write failed.
        """
        is_again = (
            self._files.are_taken
            and self._ledger.knows_frame(frame.stem, frame.image_digest, frame.text_digest)
            # Its files were taken away, so these were saved anew, unless they look the same to the instant.
            and not self._ledger.knows(fingerprint)
        )
        # One thread writes the ledger, so the SEQ it will allot is known.
        ordinal = self._ledger.highest_seq() + 1
        stem = unique_stem(frame.stem, ordinal) if is_again else frame.stem
        identity = action_id(stem, frame.image_digest, frame.text_digest, self._models_digest)
        paths = [path for path in (frame.image_path, frame.text_path) if path is not None]
        moves: tuple[Move, ...] = ()
        if frame.image_error is not None:
            moves = self._files.to_quarantine(paths, identity[:8])
        elif self._files.are_taken:
            moves = self._files.to_archive(paths, f"{ordinal:08d}")
        elif self._ledger.known_image(frame.stem, frame.image_digest):
            self._log.info("frame.repeated", frame=frame.stem)
            self._ledger.set_fingerprint(frame.stem, frame.image_digest, frame.text_digest, fingerprint)
            return None
        claim = _claim_of(frame, identity, fingerprint, moves)
        seq = self._ledger.claim(claim, is_arrival=is_again)
        if seq is None:
            self._log.info("frame.repeated", frame=frame.stem, id=identity)
            # NanoStation waits for the pair to be taken, also when it has saved the same one again.
            self._files.move(self._files.to_archive(paths, f"again-{identity[:8]}"), replace=True)
            return None
        reach(Failpoint.CLAIMED)
        if is_again:
            self._log.warning("frame.identical", frame=frame.stem, id=identity, seq=seq)
        return _row_of(claim, seq)


def _claim_of(frame: LoadedFrame, identity: str, fingerprint: Fingerprint, moves: tuple[Move, ...]) -> Claim:
    error = frame.image_error
    return Claim(
        stem=frame.stem,
        id=identity,
        image_name=frame.image_path.name,
        text_name=frame.text_path.name if frame.text_path else None,
        image_digest=frame.image_digest,
        text_digest=frame.text_digest,
        fingerprint=fingerprint,
        moves=moves,
        reason_code=error.code if error else None,
        reason_text=error.message if error else None,
    )


def _row_of(claim: Claim, seq: int) -> LedgerRow:
    """Row that a claim has just become; its number is not needed to finish it."""
    return LedgerRow(
        row=0,
        state=RowState.TAKEN,
        seq=seq,
        observation_json=None,
        decision_json=None,
        **{field.name: getattr(claim, field.name) for field in fields(claim)},
    )
