"""Files of frames: where they go, how they are called there, and the reason beside those in quarantine."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from semd.errors import FileUnreadableError, StorageError
from semd.inbox.consume import put_aside, write_reason
from semd.outbox.rows import LedgerRow, Move
from semd.service.failpoints import Failpoint, reach
from semd.service.storage import storage_error

_MAX_STEM_BYTES = 180
_ARCHIVED = re.compile(r"([0-9]{8,18})~")


@dataclass(frozen=True, slots=True)
class FrameFolders:
    """Folders that a frame's files go to.

    Attributes:
        archive: folder of taken pairs, or None where they stay (layout `series`).
        quarantine: folder of unusable files.
    """

    archive: Path | None
    quarantine: Path

    def highest_archived(self) -> int:
        """Highest SEQ that names an archived file; 0 when there is none.

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


class FrameFiles:
    """Moves the files of frames. Each move is written in the ledger first, and repeating it is harmless.

    Args:
        folders: folders that files go to.
        now: the clock, UTC, for the reasons in quarantine.
    """

    def __init__(self, folders: FrameFolders, now: Callable[[], datetime]) -> None:
        self._folders = folders
        self._now = now
        self._log = structlog.get_logger()

    @property
    def are_taken(self) -> bool:
        """True where taken pairs leave the watch directory (layout `single`)."""
        return self._folders.archive is not None

    def to_archive(self, paths: Sequence[Path], prefix: str) -> tuple[Move, ...]:
        """Plan the moves of taken files; none where they stay."""
        return _moves(paths, self._folders.archive, prefix)

    def to_quarantine(self, paths: Sequence[Path], prefix: str) -> tuple[Move, ...]:
        """Plan the moves of unusable files."""
        return _moves(paths, self._folders.quarantine, prefix)

    def file_frame(self, row: LedgerRow) -> None:
        """Move a frame's files where its row says, and write the reason where that is quarantine.

        Raises:
            StorageError: a file cannot be moved, or the reason cannot be written.
        """
        try:
            self.move(row.moves)
        except StorageError as error:
            # A file that may not be read, or is held, may be impossible to move as well: it stays, the rest goes on.
            if row.reason_code != FileUnreadableError.code or not isinstance(error.__cause__, PermissionError):
                raise
            self._log.warning("frame.unmovable", frame=row.stem, error=error.code, reason=error.message)
        if row.reason_code is not None:
            target = Path(row.moves[0].target)
            write_reason(target, row.stem, row.reason_code, row.reason_text or "", self._now())
            reach(Failpoint.REASON_WRITTEN)

    def move(self, moves: tuple[Move, ...], *, replace: bool = False) -> None:
        """Move files; durable on return.

        Args:
            moves: source and target of each.
            replace: True where a file with the target's name gives way.

        Raises:
            StorageError: one cannot be moved.
        """
        gone = put_aside(((Path(move.source), Path(move.target)) for move in moves), replace=replace)
        reach(Failpoint.FILES_ASIDE)
        if gone:
            self._log.warning("frame.files-gone", files=[path.name for path in gone])


def _moves(paths: Sequence[Path], directory: Path | None, prefix: str) -> tuple[Move, ...]:
    """Moves of files to `<prefix>~<name>`, with the name made harmless."""
    if directory is None:
        return ()
    return tuple(Move(str(path), str(directory / f"{prefix}~{harmless_name(path.name)}")) for path in paths)


def harmless_name(name: str) -> str:
    """File name without characters that cannot be shown or that some file system refuses, cut to length.

    The cut leaves room for the prefix and for `.reason.txt`; names have at most 255 bytes.
    """
    shown = "".join(letter if letter.isprintable() and letter not in '<>:"|?*\\' else "_" for letter in name)
    stem, dot, suffix = shown.rpartition(".")
    return stem.encode()[:_MAX_STEM_BYTES].decode(errors="ignore") + dot + suffix
