"""The abort file: while it is in the action directory, the Middle Client sends no command.

Only its presence counts, not its content. Anyone who can write to the directory can stop the instrument with any tool,
even while semd is not running. The file outlives restarts. The daemon keeps answering: its answers depend on the frames
alone, so that a recorded sequence replays to the same actions (protocol, section 4).
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from semd.config import ActionsConfig, default
from semd.errors import StorageError
from semd.service.storage import storage_error, write_atomically


class AbortFile:
    """The abort file in the action directory. `<name>.txt` counts as well, because Windows Explorer hides that suffix.

    Args:
        directory: the action directory.
        name: name of the file.
    """

    def __init__(self, directory: Path, name: str = default(ActionsConfig, "abort_file")) -> None:
        self._paths = (directory / name, directory / f"{name}.txt")

    def standing(self) -> str | None:
        """Return the reason why nothing may be sent, or None. A failure to check for the file is a reason as well."""
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
        """Create or replace the file, durably.

        Raises:
            StorageError: the file cannot be written, for example because the directory does not exist.
        """
        text = f"Made by `semd abort` at {moment.isoformat(timespec='seconds')}. No command is sent while it is here.\n"
        write_atomically(self._paths[0], text.encode())
        return self._paths[0]

    def clear(self) -> bool:
        """Remove the file and return True if it existed.

        Raises:
            StorageError: the file cannot be removed.
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
