"""Files that others read while we write: one step from the old content to the new, or to a new place."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from semd.errors import StorageError

_ATTEMPTS = 20
_PAUSE_S = 0.05


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write `data` by temporary name and rename; a reader sees the old content or the new, never half.

    Args:
        path: the file; its directory must exist.
        data: the whole content.
        durable: also sync file and directory, so that it survives a power cut.

    Raises:
        StorageError: the disk is full, the directory is read-only or gone; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        retry_sharing(lambda: temporary.replace(path))
        if durable:
            sync_directory(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error


def move(source: Path, destination: Path) -> None:
    """Move a file into an existing directory, also to another device; repeating it after a crash is harmless.

    Raises:
        StorageError: neither source nor destination is there, or the move fails.
    """
    try:
        try:
            retry_sharing(lambda: source.replace(destination))
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            partial = destination.with_name(f".{destination.name}.partial")
            shutil.copy2(source, partial)
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            partial.replace(destination)
            source.unlink()
        sync_directory(destination.parent)
    except FileNotFoundError as error:
        if not destination.exists():
            raise StorageError(f"{source}: vanished before it was moved to {destination}") from error
    except OSError as error:
        raise StorageError(
            f"{source}: cannot be moved to {destination}: {error.strerror or error}"
        ) from error


def sync_directory(directory: Path) -> None:
    """Make renames in a directory survive a power cut. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def retry_sharing(action: Callable[[], object], sleep: Callable[[float], None] = time.sleep) -> None:
    """Do it again while Windows says that a reader holds the file, about a second at most."""
    for attempt in range(_ATTEMPTS):
        try:
            action()
        except PermissionError as error:
            # winerror 5, 32, 33: access denied or shared with a reader. Elsewhere the answer is final.
            if getattr(error, "winerror", None) not in (5, 32, 33) or attempt == _ATTEMPTS - 1:
                raise
            sleep(_PAUSE_S)
        else:
            return
