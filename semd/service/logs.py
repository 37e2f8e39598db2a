"""Structured logs: one JSON object a line, to a file per process and to standard output.

On a terminal standard output shows the same events rendered for people.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TextIO

import structlog

Level = Literal["debug", "info", "warning", "error"]
DEFAULT_LEVEL: Level = "info"
DEFAULT_MAX_MB = 20.0
"""Size at which a log file is rotated."""
_OLD_FILES = 3
_ROTATION_PAUSE_S = 60.0


class PatientFileHandler(logging.handlers.RotatingFileHandler):
    """A log file rotated by size, also while another process holds it.

    Windows does not let a file be renamed that a viewer or a backup has open. Then nothing is lost: the lines go on
    into the present file, beyond its size, no old file has moved, and rotation is tried again after a while.

    Args:
        path: the log file; older ones are `<path>.1` (the newest) and up.
        max_bytes: size at which it is rotated.
        old_files: how many are kept.
        rename: `os.replace`, or what stands in for it.
        monotonic_s: the clock of the pause between attempts.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        old_files: int = _OLD_FILES,
        rename: Callable[[str, str], None] = os.replace,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        # A lone surrogate, from a file name that is no text, is written as the escape that JSON has for it.
        super().__init__(path, maxBytes=max_bytes, backupCount=old_files, encoding="utf-8", errors="backslashreplace")
        self._rename = rename
        self._monotonic_s = monotonic_s
        self._next_attempt_s = float("-inf")

    def shouldRollover(self, record: logging.LogRecord) -> bool:
        """Return True if the record would make the file too large, and it is time to try."""
        return self._monotonic_s() >= self._next_attempt_s and bool(super().shouldRollover(record))

    def doRollover(self) -> None:
        """Rotate, or put it off."""
        if self.stream is not None:
            self.stream.close()
            self.stream = None
        try:
            if Path(self._numbered(0)).exists():
                self._shift()  # what a shift that failed has left
            # The present file first: when that fails no old one has been pushed out for nothing.
            self._rename(self.baseFilename, self._numbered(0))
            self._shift()
        except OSError:
            self._next_attempt_s = self._monotonic_s() + _ROTATION_PAUSE_S
        self.stream = self._open()

    def _shift(self) -> None:
        """Move every file one number up; the last is replaced."""
        for number in range(self.backupCount, 0, -1):
            if Path(self._numbered(number - 1)).exists():
                self._rename(self._numbered(number - 1), self._numbered(number))

    def _numbered(self, number: int) -> str:
        return f"{self.baseFilename}.{number}"


def configure_logs(
    path: Path | None,
    *,
    level: Level = DEFAULT_LEVEL,
    max_bytes: int = int(DEFAULT_MAX_MB * 1e6),
    stream: TextIO | None = None,
) -> None:
    """Send structlog's events to `path` and to `stream` (standard output by default).

    A log that cannot be written must not stop the loop: a full disk loses log lines, not frames.

    Args:
        path: the log file, rotated at `max_bytes` with old ones kept; None for the stream alone.
        level: least severe level written.
        max_bytes: size at which the file is rotated.
        stream: where the second copy goes.
    """
    logging.raiseExceptions = False
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    stream = stream if stream is not None else sys.stdout
    handlers: list[logging.Handler] = [logging.StreamHandler(stream)]
    handlers[0].setFormatter(_formatter(shared, people=stream.isatty(), ascii_only=True))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(PatientFileHandler(path, max_bytes=max_bytes))
        handlers[1].setFormatter(_formatter(shared, people=False, ascii_only=False))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level.upper())
    # Its warnings are about its own shutdown; what matters of it is asked with `Watch.healthy`.
    logging.getLogger("watchdog").setLevel(logging.CRITICAL)
    # It complains of damaged files in its own words; their frame's own line says what is wrong.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def _formatter(
    shared: list[structlog.typing.Processor], *, people: bool, ascii_only: bool
) -> structlog.stdlib.ProcessorFormatter:
    """Lines for people, or JSON: in ASCII where the encoding of what reads them is not known."""
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if people else structlog.processors.JSONRenderer(ensure_ascii=ascii_only)
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    )
