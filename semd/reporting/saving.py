"""Saving of reports: the table as text, and the same figures as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from semd.service.storage import make_directory, storage_error, write_atomically


def save_report(directory: Path, *, texts: Mapping[str, str], values: Mapping[str, Mapping[str, object]]) -> None:
    """Write a report's files; the directory is created.

    Args:
        directory: where the files go.
        texts: tables by file name.
        values: JSON objects by file name.

    Raises:
        StorageError: the directory or a file cannot be written.
    """
    try:
        make_directory(directory)
    except OSError as error:
        raise storage_error(directory, "create", error) from error
    for name, text in texts.items():
        write_atomically(directory / name, (text + "\n").encode())
    for name, content in values.items():
        write_atomically(directory / name, (json.dumps(content, indent=2) + "\n").encode())
