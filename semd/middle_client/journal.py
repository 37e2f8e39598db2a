"""Journal of the Middle Client: the action in flight and the newest acknowledged one, kept across restarts."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from semd.protocol.action import parse_file_name
from semd.service.failpoints import Failpoint
from semd.service.storage import WritePoints, rename, storage_error, write_atomically

_POINTS = WritePoints(Failpoint.JOURNAL_WRITING, Failpoint.JOURNAL_WRITTEN, Failpoint.JOURNAL_RENAMED)
_MAX_BYTES = 1 << 14


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """State of the Middle Client that survives a restart.

    Attributes:
        in_flight: name of the file of the action in flight, or None.
        was_sent: True where part of it may have reached the SEM and no answer was received.
        baseline_seq: `aisem`: highest pending SEQ when the command was sent; only an action with a higher one can
            confirm it.
        newest_acknowledged: name of the newest action file that the SEM acknowledged, or None.
        turnaround_s: `aisem`: longest measured time from a command to the answer of its frame; 0 if unknown.
        commands: commands of the last minute for the rate limit, as (second of the monotonic clock, number sent).
    """

    in_flight: str | None = None
    was_sent: bool = False
    baseline_seq: int = 0
    newest_acknowledged: str | None = None
    turnaround_s: float = 0.0
    commands: tuple[tuple[int, int], ...] = ()

    @property
    def newest_acknowledged_seq(self) -> int:
        """SEQ of the newest acknowledged action; 0 if there is none."""
        named = parse_file_name(self.newest_acknowledged or "")
        return named[0] if named is not None else 0


class Journal:
    """JSON file that is replaced atomically and synced before anything is sent.

    Args:
        path: path of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> tuple[JournalEntry | None, bool]:
        """Read the journal. A damaged file is renamed with the suffix `.damaged`.

        Returns:
            The entry, or None if there is none or it is damaged; and True where the file is damaged.

        Raises:
            StorageError: the file cannot be read or renamed.
        """
        try:
            with self._path.open("rb") as file:
                raw = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return None, False
        except OSError as error:
            raise storage_error(self._path, "read", error) from error
        entry = _parse(raw) if len(raw) <= _MAX_BYTES else None
        if entry is None:
            try:
                rename(self._path, self._path.with_name(self._path.name + ".damaged"))
            except OSError as error:
                raise storage_error(self._path, "set aside", error) from error
        return entry, entry is None

    def save(self, entry: JournalEntry) -> None:
        """Write the journal; durable on return.

        Raises:
            StorageError: the file cannot be written; nothing may be sent.
        """
        write_atomically(self._path, json.dumps(asdict(entry)).encode(), points=_POINTS)


def _parse(raw: bytes) -> JournalEntry | None:
    try:
        fields = json.loads(raw)
        entry = JournalEntry(**fields)
        entry = replace(entry, commands=tuple((second, count) for second, count in entry.commands))
    except (ValueError, TypeError, RecursionError):
        return None
    names_fit = all(
        name is None or (isinstance(name, str) and parse_file_name(name) is not None)
        for name in (entry.in_flight, entry.newest_acknowledged)
    )
    numbers = [entry.baseline_seq, *(number for pair in entry.commands for number in pair)]
    is_time = type(entry.turnaround_s) in (int, float) and 0.0 <= entry.turnaround_s < math.inf
    rest_fits = (
        is_time and isinstance(entry.was_sent, bool) and all(type(number) is int and number >= 0 for number in numbers)
    )
    return entry if names_fit and rest_fits else None
