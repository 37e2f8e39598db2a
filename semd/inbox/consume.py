"""Moving files out of the watch directory; repeating a move after a crash is harmless."""

from __future__ import annotations

import errno
import os
import shutil
from datetime import datetime
from pathlib import Path

from semd.errors import StorageError
from semd.storage import rename, storage_error, sync_directory, write_atomically

_WHAT_TO_DO = """
What to do: the files beside this note are as they were found. Mend the cause (see the code in the operations
guide) and, if the frame still matters, save or copy it to the watch directory under a new name.
"""


def move_file(source: Path, target: Path) -> None:
    """Move a file, also to another device; done already counts as done.

    Raises:
        StorageError: neither is there, or it cannot be moved.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            rename(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            partial = target.with_name(f".{target.name}.partial")
            shutil.copy2(source, partial)
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            rename(partial, target)
            source.unlink()
        sync_directory(target.parent)
    except FileNotFoundError as error:
        if not target.exists():
            raise StorageError(f"{source}: vanished before it was moved to {target}") from error
    except OSError as error:
        raise storage_error(source, f"move to {target}", error) from error


def write_reason(target: Path, stem: str, code: str, reason: str, moment: datetime) -> None:
    """Write `<file>.reason.txt` beside a quarantined file: what is wrong, where, what to do.

    Raises:
        StorageError: it cannot be written.
    """
    text = f"{code}: {reason}\nFrame: {stem!r}\nTime: {moment.isoformat(timespec='milliseconds')}\n{_WHAT_TO_DO}"
    write_atomically(target.with_name(f"{target.name}.reason.txt"), text.encode("utf-8", "backslashreplace"))
