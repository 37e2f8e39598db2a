"""The abort file: while it lies in the action directory no command leaves the Middle Client.

Only its presence counts, not what it holds, so anybody who can write there can stop the instrument, with any tool and
without semd running; it outlives restarts. The daemon goes on answering: its answers depend on the frames alone, so
that a recorded sequence replays to the same actions (protocol, section 4).
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from semd.config import ActionsConfig, default
from semd.errors import StorageError
from semd.service.storage import storage_error, write_atomically


class AbortFile:
    """One name in the action directory. `<name>.txt` counts as well: Windows' Explorer adds that unseen.

    Args:
        directory: the action directory.
        name: of the file.
    """

    def __init__(self, directory: Path, name: str = default(ActionsConfig, "abort_file")) -> None:
        self._paths = (directory / name, directory / f"{name}.txt")

    def standing(self) -> str | None:
        """Say why nothing may be sent, or None. When the look itself fails, that is a reason too."""
        for path in self._paths:
            try:
                os.lstat(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                return f"{path} cannot be looked for: {error.strerror}"
            return f"{path} is there"
        return None

    def raise_it(self, moment: datetime) -> Path:
        """Make the file, durably; one that is there is replaced.

        Raises:
            StorageError: it cannot be written, for example because the directory is not there.
        """
        text = f"Made by `semd abort` at {moment.isoformat(timespec='seconds')}. No command is sent while it is here.\n"
        write_atomically(self._paths[0], text.encode())
        return self._paths[0]

    def clear(self) -> bool:
        """Remove the file; returns whether there was one.

        Raises:
            StorageError: it cannot be removed.
        """
        was_there = self.standing() is not None
        for path in self._paths:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise storage_error(path, "remove", error) from error
        left = self.standing()
        if left is not None:
            raise StorageError(f"the abort still stands: {left}")
        return was_there
