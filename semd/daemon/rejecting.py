"""Quarantine of files that cannot be answered: unreadable parameters, or one file of a pair without the other."""

from __future__ import annotations

from pathlib import Path

import structlog

from semd.daemon.frame_files import FrameFiles
from semd.errors import FileLinkError, FileUnreadableError, PairIncompleteError
from semd.inbox.frame import RejectedFrame
from semd.outbox.ledger import Ledger
from semd.outbox.rows import Fingerprint, LedgerRow, RejectionClaim, RowState
from semd.protocol.identity import digest
from semd.service.failpoints import Failpoint, reach


class Rejections:
    """Moves rejected files to quarantine, each rejection with one record in the ledger.

    Args:
        ledger: of the outbox.
        files: of the frames.
    """

    def __init__(self, ledger: Ledger, files: FrameFiles) -> None:
        self._ledger = ledger
        self._files = files
        self._log = structlog.get_logger()
        self.quarantined = 0

    def reject(self, rejection: RejectedFrame, fingerprint: Fingerprint) -> None:
        """Move the files of a rejection to quarantine, once.

        Raises:
            StorageError, LedgerError: a write failed; `finish` ends it later.
        """
        error = rejection.error
        is_unread = isinstance(error, FileUnreadableError | FileLinkError)
        known_by = fingerprint if is_unread else f"{rejection.image_digest}{rejection.text_digest}"
        key = digest(str(known_by).encode("utf-8", "surrogateescape"))[:8]
        if isinstance(error, PairIncompleteError) and self._is_late(rejection):
            self._log.warning("frame.late-half", frame=rejection.stem, files=[path.name for path in rejection.paths])
            self._files.move(self._files.to_quarantine(rejection.paths, f"late-{key}"), replace=True)
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
            moves=self._files.to_quarantine(rejection.paths, key),
        )
        number = self._ledger.reject(claim, is_arrival=is_unread)
        if number is None:
            self._log.info("frame.repeated", frame=rejection.stem, error=error.code)
            self._files.move(self._files.to_quarantine(rejection.paths, f"again-{key}"), replace=True)
            return
        reach(Failpoint.REJECTED)
        for row in self._ledger.unfinished():
            if row.row == number:
                self.finish(row)

    def finish(self, row: LedgerRow) -> None:
        """File the rejection of a ledger row; also after a crash.

        Raises:
            StorageError, LedgerError: a write failed; call again.
        """
        self._files.file_frame(row)
        self._ledger.quarantined(row.row)
        reach(Failpoint.QUARANTINED)
        self.quarantined += 1
        self._log.warning(
            "frame.quarantined", frame=row.stem, error=row.reason_code, reason=row.reason_text,
            files=[Path(move.target).name for move in row.moves],
        )  # fmt: skip

    def _is_late(self, rejection: RejectedFrame) -> bool:
        """Return True if a lone file belongs to a frame that has had its quarantine record.

        In layout `series` the stem tells. In `single` all frames share theirs, so only one file counts as the one that
        the last frame had lacked.
        """
        row = self._ledger.newest(rejection.stem)
        if row is None or row.reason_code is None or row.state not in (RowState.QUARANTINED, RowState.PUBLISHED):
            return False
        image, text = rejection.image_path, rejection.text_path
        was_lacking = (image is None or row.image_name is None) and (text is None or row.text_name is None)
        if was_lacking:
            self._ledger.add_missing_file(row.row, image.name if image else None, text.name if text else None)
        return was_lacking or not self._files.are_taken
