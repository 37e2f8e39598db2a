"""Files that are whole or not there at all: atomic writes, renames and a lock against a second process."""

from __future__ import annotations

import errno
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from semd.errors import StorageError
from semd.service.failpoints import Failpoint, reach

_RENAME_ATTEMPTS = 20 if sys.platform == "win32" else 1
"""Windows does not let a file be renamed, nor replaced, that a reader, a virus scanner for one, has open just now."""
_RENAME_PAUSE_S = 0.05

_ADVICE = {
    errno.ENOSPC: "the disk is full: make room",
    errno.EDQUOT: "the disk quota is spent: make room",
    errno.EROFS: "the file system is read-only: remount it writable",
    errno.EACCES: "permission denied: give the service's account write access",
    errno.EPERM: "not permitted: give the service's account write access",
    errno.ENOENT: "the directory is gone: bring it back",
}


@dataclass(frozen=True, slots=True)
class WritePoints:
    """The failpoints of one kind of file.

    Attributes:
        begun: half of it is in the temporary file.
        written: all of it is, synced; None when that is no point of its own.
        renamed: it has its name, the directory is not synced; None likewise.
    """

    begun: Failpoint
    written: Failpoint | None = None
    renamed: Failpoint | None = None


def storage_error(path: Path, doing: str, error: OSError) -> StorageError:
    """Explain an `OSError`: what could not be done, where, why and what to do."""
    cause = _ADVICE.get(error.errno or 0, error.strerror or str(error))
    return StorageError(f"{path}: cannot {doing}: {cause}")


def sync_directory(path: Path) -> None:
    """Make renames in a directory durable. Windows has no such call: its file system logs renames itself.

    Raises:
        OSError: the directory is gone or the disk failed.
    """
    if sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename(source: Path, target: Path) -> None:
    """Rename, replacing `target`. On Windows tried for a second.

    Raises:
        OSError: it could not be done.
    """
    for attempt in range(1, _RENAME_ATTEMPTS + 1):
        try:
            source.replace(target)
        except PermissionError:
            if attempt == _RENAME_ATTEMPTS:
                raise
            time.sleep(_RENAME_PAUSE_S)
        else:
            return


def make_directory(path: Path) -> None:
    """Make a directory unless it is there; its name is durable on return.

    Raises:
        OSError: it cannot be made.
    """
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        sync_directory(path.parent)


def write_atomically(path: Path, data: bytes, *, durable: bool = True, points: WritePoints | None = None) -> None:
    """Write a file under a hidden temporary name beside `path`, then rename it there.

    Args:
        path: the file; a reader sees the old content or the new, never half of it.
        data: the content.
        durable: True where it must survive a power cut once this returns.
        points: its failpoints, if it has any.

    Raises:
        StorageError: it cannot be written; the old content is untouched.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            half = len(data) // 2
            file.write(data[:half])
            if points is not None:
                reach(points.begun, file.flush)
            file.write(data[half:])
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if points is not None and points.written is not None:
            reach(points.written)
        rename(temporary, path)
        if points is not None and points.renamed is not None:
            reach(points.renamed)
        if durable:
            sync_directory(path.parent)
    except OSError as error:
        _remove_quietly(temporary)
        raise storage_error(path, "write", error) from error


def _remove_quietly(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the failure that led here is the one to report


class InstanceLock:
    """Keeps a second process out. The system lets go of it when the process ends, however it ends.

    Raises on entering:
        StorageError: another process holds it, or the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = -1

    def __enter__(self) -> InstanceLock:
        """Take the lock."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise storage_error(self._path, "create", error) from error
        try:
            _lock(self._handle)
        except OSError as error:
            os.close(self._handle)
            raise StorageError(f"{self._path}: another process is running on this state directory") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of it."""
        os.close(self._handle)


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
