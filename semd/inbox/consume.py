"""Moving files out of the watch directory; repeating a move after a crash is harmless."""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from semd.service.failpoints import Failpoint, reach
from semd.service.storage import WritePoints, make_directory, rename, storage_error, sync_directory, write_atomically

_REASON_POINTS = WritePoints(Failpoint.REASON_WRITING)

_WHAT_TO_DO = """
What to do: the files beside this note are as they were found. Mend the cause (see the code in the operations
guide) and, if the frame still matters, save or copy it to the watch directory under a new name.
"""


def put_aside(moves: Iterable[tuple[Path, Path]], *, replace: bool = False) -> list[Path]:
    """Move the files of one frame; durable on return.

    All are renamed before anything is synced: a writer that sees the first of them go and saves the next pair
    must not find the second still there.

    Args:
        moves: source and target of each; the targets were decided before, so that this can be repeated.
        replace: see `move_file`.

    Returns:
        Sources that are nowhere any more: somebody else took them.

    Raises:
        StorageError: one cannot be moved, or its directory is gone.
    """
    gone: list[Path] = []
    folders: set[Path] = set()
    for source, target in moves:
        if not move_file(source, target, replace=replace):
            gone.append(source)
        reach(Failpoint.FILE_MOVED)
        folders.add(target.parent)
    for folder in folders:
        try:
            sync_directory(folder)
        except OSError as error:
            raise storage_error(folder, "sync", error) from error
    return gone


def move_file(source: Path, target: Path, *, replace: bool = False) -> bool:
    """Move a file, also to another device; done already counts as done.

    Args:
        source: the file.
        target: its new name.
        replace: True where a file of the target's name gives way. If not, one that is there says that the move was
            made before, and a source is half of a newer frame, saved under the old name meanwhile: it stays. Only
            what a crash between copying and removing left goes: the same bytes of the same time.

    Returns:
        False when the file is at neither place.

    Raises:
        StorageError: it cannot be moved, or its directory is gone and the file may come back with it.
    """
    try:
        if not replace and os.path.lexists(target):
            if os.path.lexists(source) and _is_copy(source, target):
                source.unlink()
            return True
        make_directory(target.parent)
        reach(Failpoint.FILE_MOVING)
        try:
            rename(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy(source, target)
            source.unlink()
    except FileNotFoundError as error:
        if not source.parent.is_dir():
            raise storage_error(source, f"move to {target}", error) from error
        return False
    except OSError as error:
        raise storage_error(source, f"move to {target}", error) from error
    return True


def _is_copy(source: Path, target: Path) -> bool:
    if source.is_symlink() or target.is_symlink():
        return source.is_symlink() and target.is_symlink() and source.readlink() == target.readlink()
    return source.stat().st_mtime_ns == target.stat().st_mtime_ns and filecmp.cmp(source, target, shallow=False)


def _copy(source: Path, target: Path) -> None:
    """Copy so that the copy survives a power cut before the source is removed."""
    partial = target.with_name(f".{target.name}.partial")
    if os.path.lexists(partial):
        partial.unlink()  # a link could not be made over what a crash has left
    shutil.copy2(source, partial, follow_symlinks=False)
    if not partial.is_symlink():
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
    rename(partial, target)
    sync_directory(target.parent)


def write_reason(target: Path, stem: str, code: str, reason: str, moment: datetime) -> None:
    """Write `<file>.reason.txt` beside a quarantined file: what is wrong, where, what to do.

    Raises:
        StorageError: it cannot be written.
    """
    text = f"{code}: {reason}\nFrame: {stem!r}\nTime: {moment.isoformat(timespec='milliseconds')}\n{_WHAT_TO_DO}"
    note = target.with_name(f"{target.name}.reason.txt")
    write_atomically(note, text.encode("utf-8", "backslashreplace"), points=_REASON_POINTS)
