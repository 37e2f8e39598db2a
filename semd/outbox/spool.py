"""The action directory: the daemon writes it, the Middle Client empties it (protocol, sections 2 and 3)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from semd.protocol.action import Action, encode_action, parse_file_name
from semd.service.failpoints import Failpoint
from semd.service.storage import WritePoints, make_directory, storage_error, write_atomically

SUBFOLDERS = ("sent", "refused", "expired", "uncertain", "dry-run")
"""Where the Middle Client moves what it has dealt with."""

_POINTS = WritePoints(Failpoint.ACTION_WRITING, Failpoint.ACTION_WRITTEN, Failpoint.ACTION_RENAMED)


class Spool:
    """Action files of one directory. One daemon writes it.

    Args:
        directory: pending actions; made when missing. Temporary files that a crash left are removed.

    Raises:
        StorageError: it cannot be made or written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            make_directory(directory)
            for leftover in directory.glob(".action-*.txt.tmp"):
                leftover.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(directory, "prepare", error) from error

    def publish(self, action: Action) -> Path:
        """Write an action file, unless one of that name is there or was dealt with already.

        The file is complete and durable before it has its name (temporary name, fsync, rename, fsync of the
        directory).

        Returns:
            Where the file is.

        Raises:
            ActionTextError: the action cannot be written as the protocol wants it.
            StorageError: full disk, read-only or vanished directory.
        """
        data = encode_action(action)
        found = self.locate(action.file_name)
        if found is not None:
            return found
        path = self._directory / action.file_name
        write_atomically(path, data, points=_POINTS)
        return path

    def locate(self, file_name: str) -> Path | None:
        """Find an action file, pending or dealt with.

        Files only ever move from pending to a folder below; looking in this order cannot miss one.

        Raises:
            StorageError: the directory cannot be read.
        """
        places = [self._directory, *(self._directory / name for name in SUBFOLDERS)]
        try:
            return next((place / file_name for place in places if (place / file_name).exists()), None)
        except OSError as error:
            raise storage_error(self._directory, "read", error) from error

    def highest_seq(self) -> int:
        """Highest SEQ of any action file here or in any folder below; 0 when there is none.

        Raises:
            StorageError: the directory cannot be read.
        """
        try:
            return max((seq for seq in self._sequences(self._directory, depth=1)), default=0)
        except OSError as error:
            raise storage_error(self._directory, "read", error) from error

    def _sequences(self, directory: Path, depth: int) -> Iterator[int]:
        with os.scandir(directory) as entries:
            for entry in entries:
                named = parse_file_name(entry.name)
                if named is not None:
                    yield named[0]
                elif depth > 0 and entry.is_dir():
                    yield from self._sequences(Path(entry.path), depth - 1)
