"""The action directory of the Middle Client: pending action files, and one folder for each outcome."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from semd.errors import ActionTextError
from semd.protocol.action import MAX_MESSAGE_BYTES, Action, decode_action, parse_file_name
from semd.service.failpoints import Failpoint, reach
from semd.service.storage import rename, storage_error, sync_directory


class Outcome(StrEnum):
    """Outcome of an action; the value names its folder."""

    SENT = "sent"
    REFUSED = "refused"
    EXPIRED = "expired"
    UNCERTAIN = "uncertain"
    DRY_RUN = "dry-run"


@dataclass(frozen=True, slots=True)
class Listing:
    """Pending action files.

    Attributes:
        names: names of action files, in ascending SEQ.
        misnamed: names that resemble an action but are malformed or are not of a regular file. Pipes, directories and
            symbolic links are never opened.
    """

    names: tuple[str, ...]
    misnamed: tuple[str, ...]


class ActionFolder:
    """Access to the action directory. No file is ever deleted.

    Args:
        directory: directory to which the daemon publishes.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def scan(self) -> Listing:
        """List the pending actions.

        Raises:
            StorageError: the directory is missing or cannot be read.
        """
        found: list[tuple[int, str]] = []
        misnamed: list[str] = []
        try:
            with os.scandir(self._directory) as entries:
                for entry in entries:
                    named = parse_file_name(entry.name)
                    if named is not None and entry.is_file(follow_symlinks=False):
                        found.append((named[0], entry.name))
                    elif named is not None or (entry.name.startswith("action-") and entry.name.endswith(".txt")):
                        misnamed.append(entry.name)
        except OSError as error:
            raise storage_error(self._directory, "read", error) from error
        return Listing(tuple(name for _, name in sorted(found)), tuple(sorted(misnamed)))

    def read(self, name: str) -> tuple[bytes, Action] | None:
        """Read a pending action; None if the file no longer exists.

        Raises:
            ActionTextError: the file is malformed, or its name belongs to another action.
            StorageError: the file cannot be read.
        """
        path = self._directory / name
        try:
            with path.open("rb") as file:
                data = file.read(MAX_MESSAGE_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage_error(path, "read", error) from error
        action = decode_action(data)
        if action.file_name != name:
            raise ActionTextError(f"{name} holds SEQ={action.seq} ID={action.id}")
        return data, action

    def move(self, name: str, outcome: Outcome) -> None:
        """Move a file to the folder of its outcome, durably. Moving it again has no effect.

        Raises:
            StorageError: the file cannot be moved.
        """
        source, folder = self._directory / name, self._directory / outcome
        try:
            folder.mkdir(exist_ok=True)
            reach(Failpoint.ACTION_FILING)
            rename(source, _free(folder / name))
        except OSError as error:
            if isinstance(error, FileNotFoundError) and self._directory.is_dir():
                return  # already moved, or removed by hand
            raise storage_error(source, f"move to {outcome}/", error) from error
        self._sync(folder)

    def holds(self, name: str, outcome: Outcome) -> bool:
        """Return True if the folder of an outcome contains a file of this name."""
        return (self._directory / outcome / name).exists()

    def newest(self, outcome: Outcome) -> str | None:
        """Return the name of the file with the highest SEQ in the folder of an outcome, or None.

        Raises:
            StorageError: the folder cannot be read.
        """
        folder = self._directory / outcome
        try:
            names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        except OSError as error:
            raise storage_error(folder, "read", error) from error
        named = [(parsed[0], name) for name in names if (parsed := parse_file_name(name)) is not None]
        return max(named)[1] if named else None

    def _sync(self, folder: Path) -> None:
        try:
            sync_directory(folder)
            sync_directory(self._directory)
        except OSError as error:
            raise storage_error(folder, "sync", error) from error


def _free(path: Path) -> Path:
    """Return an unused path, numbered if the name exists, so that no file is overwritten."""
    number = 0
    free = path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free
