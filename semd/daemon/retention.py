"""Retention of archive, quarantine, filed actions and ledger rows (`[retention]`); all is kept unless it is set.

Nothing goes unless the configuration says so. Whatever it says, these stay:

- files and rows of frames that have not ended, and the rows that the present run is rebuilt from;
- rows of frames whose files still lie in the watch directory: without them these frames would be answered again;
- rows that ended less than a day ago, and files that changed or were moved less than a day ago;
- in each folder of filed actions the one with the highest SEQ: the Middle Client and SEQ itself go on from it.

So a frame is known again for at least a day, and for as long as its files stay where they were saved. SEQ is never
reused: the highest one is kept apart from the rows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from semd.config import RetentionConfig
from semd.errors import LedgerError, StorageError
from semd.outbox.forgetting import EndedRow
from semd.outbox.ledger import Ledger
from semd.outbox.spool import SUBFOLDERS
from semd.protocol.action import parse_file_name
from semd.service.storage import storage_error

_PERIOD_S = 3600.0
_SLICE_S = 0.01
"""Longest work between two looks at the watch directory."""
_DAY_S = 86_400.0
_ENTRIES, _FILES, _ROWS, _PAGES = 256, 32, 64, 256
"""Done in one go: entries of a folder read, files deleted, rows looked at, pages cut off."""
_OLDEST_KEPT = 20_000
"""Files of a folder that one pass remembers, and so at most deletes; the oldest. Memory is finite."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Folders and ledger that grow.

    Attributes:
        archive, quarantine: of the frames' files.
        actions: the action directory; only its folders of dealt with actions are touched.
        watch: the watch directory; nothing in it is ever touched.
    """

    archive: Path
    quarantine: Path
    actions: Path
    watch: Path


@dataclass(frozen=True, slots=True, order=True)
class _Kept:
    """A file: when it was last written or moved, its name and size."""

    changed_s: float
    name: str
    n_bytes: int


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Largest age and amount; None keeps everything."""

    days: float | None
    gigabytes: float | None

    @property
    def is_set(self) -> bool:
        return self.days is not None or self.gigabytes is not None

    def is_old(self, age_s: float) -> bool:
        return self.days is not None and age_s > max(self.days, 1.0) * _DAY_S

    def is_too_much(self, n_bytes: float, age_s: float) -> bool:
        return self.gigabytes is not None and n_bytes > self.gigabytes * 1e9 and age_s > _DAY_S


class Retention:
    """Deletes files and rows that are too old or too many, once an hour and a little at a time.

    Args:
        config: how much of each is kept.
        stores: where it lies.
        ledger: of the frames; used in the thread that calls `step`.
        now: the clock, UTC.
        monotonic_s: the clock of the pauses.
    """

    def __init__(
        self,
        config: RetentionConfig,
        stores: Stores,
        ledger: Ledger,
        now: Callable[[], datetime],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._stores = stores
        self._ledger = ledger
        self._now = now
        self._monotonic_s = monotonic_s
        self._work: Iterator[None] | None = None
        self._next_s = monotonic_s()
        self._deleted: dict[str, int] = {}
        self._trouble = ""
        self._log = structlog.get_logger()

    def step(self) -> None:
        """Go on with the work that is due, for some milliseconds. A failure is logged and tried again an hour later."""
        begun_s = self._monotonic_s()
        if self._work is None:
            if begun_s < self._next_s:
                return
            self._next_s = begun_s + _PERIOD_S
            self._deleted, self._trouble = {}, ""
            self._work = self._prune()
        try:
            for _ in self._work:
                if self._monotonic_s() - begun_s >= _SLICE_S:
                    return
        except (StorageError, LedgerError) as error:
            self._trouble = str(error)
        except OSError as error:
            self._trouble = str(storage_error(Path(str(error.filename)), "read", error))
        self._work = None
        if self._trouble:
            self._log.warning("retention.failed", reason=self._trouble)
        if self._deleted:
            self._log.info("retention.pruned", **self._deleted)

    def _prune(self) -> Iterator[None]:
        config, stores = self._config, self._stores
        yield from self._prune_files(stores.archive, _Bounds(config.archive_days, config.archive_gb), "archive")
        yield from self._prune_files(
            stores.quarantine, _Bounds(config.quarantine_days, config.quarantine_gb), "quarantine"
        )
        for name in SUBFOLDERS:
            bounds = _Bounds(config.actions_days, config.actions_gb)
            yield from self._prune_files(stores.actions / name, bounds, "actions")
        yield from self._prune_ledger(_Bounds(config.ledger_days, config.ledger_gb))

    def _prune_files(self, folder: Path, bounds: _Bounds, what: str) -> Iterator[None]:
        """Delete files of a folder, the oldest first."""
        if not bounds.is_set or not folder.is_dir():
            return
        total = 0
        newest_action: tuple[int, str] = (0, "")
        oldest: list[_Kept] = []
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if number % _ENTRIES == 0:
                    yield
                # Hidden files are copies that are being made.
                if entry.name.startswith(".") or not entry.is_file(follow_symlinks=False):
                    continue
                found = entry.stat(follow_symlinks=False)
                total += found.st_size
                newest_action = max(newest_action, parse_file_name(entry.name) or (0, ""))
                oldest.append(_Kept(_changed_s(found), entry.name, found.st_size))
                if len(oldest) > 2 * _OLDEST_KEPT:
                    oldest.sort()
                    del oldest[_OLDEST_KEPT:]
        now_s = self._now().timestamp()
        protected: set[str] = set()
        for number, file in enumerate(sorted(oldest)[:_OLDEST_KEPT]):
            if number % _FILES == 0:
                yield
                protected = self._in_flight()
            age_s = now_s - file.changed_s
            if not (bounds.is_old(age_s) or bounds.is_too_much(total, age_s)):
                return
            path = folder / file.name
            if str(path) in protected or parse_file_name(file.name) == newest_action:
                continue
            try:
                path.unlink(missing_ok=True)
            except OSError as error:  # on Windows a viewer that has it open bars it
                self._trouble = self._trouble or str(storage_error(path, "delete", error))
                continue
            total -= file.n_bytes
            self._deleted[what] = self._deleted.get(what, 0) + 1

    def _in_flight(self) -> set[str]:
        """Places of the files of frames that have not ended, now or after their next move."""
        return {move.target for row in self._ledger.unfinished() for move in row.moves}

    def _prune_ledger(self, bounds: _Bounds) -> Iterator[None]:
        """Forget rows, the oldest first, and give their room back."""
        if not bounds.is_set:
            return
        size = self._ledger.size()
        row_bytes = size.used_bytes / max(size.rows, 1)
        now = self._now()
        left_bytes = float(size.used_bytes)
        rows = self._ledger.ended_rows(0, _ROWS)
        while rows:
            doomed: list[EndedRow] = []
            for row in rows:
                age_s = (now - row.ended_at).total_seconds()
                if bounds.is_old(age_s) or bounds.is_too_much(left_bytes - len(doomed) * row_bytes, age_s):
                    doomed.append(row)
            if not doomed:  # what was taken later is younger still
                break
            forgotten = self._ledger.forget(self._forgettable(doomed))
            left_bytes -= forgotten * row_bytes
            if forgotten:
                self._deleted["ledger"] = self._deleted.get("ledger", 0) + forgotten
            yield
            rows = self._ledger.ended_rows(rows[-1].row, _ROWS)
        while self._ledger.give_back(_PAGES):
            yield

    def _forgettable(self, rows: list[EndedRow]) -> list[int]:
        """Rows whose files are no longer in the watch directory."""
        kept = {row.row for row in rows if any(self._lies_there(name) for name in row.left_names)}
        gone = [row for row in rows if row.row not in kept]
        # An empty directory may be a share that is not mounted: then the newest frame is not there either.
        if any(row.left_names for row in gone) and not self._watch_is_in_place():
            gone = [row for row in gone if not row.left_names]
        return [row.row for row in gone]

    def _watch_is_in_place(self) -> bool:
        return any(self._lies_there(name) for name in self._ledger.newest_left_names())

    def _lies_there(self, name: str) -> bool:
        """Return True if a file of this name may be in the watch directory."""
        try:
            (self._stores.watch / name).lstat()
        except FileNotFoundError:
            return False
        except (OSError, ValueError):
            return True
        return True


def _changed_s(found: os.stat_result) -> float:
    """Time a file was last written or moved; a move keeps the modification time and changes the other."""
    return max(found.st_mtime, found.st_ctime)
