"""Files that are whole or not there at all: atomic writes, renames and a lock against a second process."""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path
from types import TracebackType

from semd.errors import StorageError

_RENAME_ATTEMPTS = 20
_RENAME_PAUSE_S = 0.05

_ADVICE = {
    errno.ENOSPC: "the disk is full: make room",
    errno.EDQUOT: "the disk quota is spent: make room",
    errno.EROFS: "the file system is read-only: remount it writable",
    errno.EACCES: "permission denied: give the service's account write access",
    errno.EPERM: "not permitted: give the service's account write access",
    errno.ENOENT: "the directory is gone: bring it back",
}


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
    """Rename, replacing `target`. On Windows retried for a second: a reader that holds the file bars it.

    Raises:
        OSError: it could not be done.
    """
    for attempt in range(1, _RENAME_ATTEMPTS + 1):
        try:
            source.replace(target)
        except PermissionError:
            if sys.platform != "win32" or attempt == _RENAME_ATTEMPTS:
                raise
            time.sleep(_RENAME_PAUSE_S)
        else:
            return


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file under a hidden temporary name beside `path`, then rename it there.

    Args:
        path: the file; a reader sees the old content or the new, never half of it.
        data: the content.
        durable: whether it must survive a power cut once this returns.

    Raises:
        StorageError: it cannot be written; the old content is untouched.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        rename(temporary, path)
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
