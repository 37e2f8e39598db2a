"""Structured logs: one JSON object a line, to a file per process and to standard output.

On a terminal standard output shows the same events rendered for people.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
from pathlib import Path
from typing import TextIO

import structlog


def configure_logs(
    path: Path | None, *, level: str = "info", max_bytes: int = 20_000_000, stream: TextIO | None = None
) -> None:
    """Send structlog's events to `path` and to `stream` (standard output by default).

    A log that cannot be written must not stop the loop: a full disk loses log lines, not frames.

    Args:
        path: the log file, rotated at `max_bytes` with three old ones kept; None for the stream alone.
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
    handlers[0].setFormatter(_formatter(shared, people=stream.isatty()))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.handlers.RotatingFileHandler(path, maxBytes=max_bytes, backupCount=3, encoding="utf-8"))
        handlers[1].setFormatter(_formatter(shared, people=False))
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


def _formatter(shared: list[structlog.typing.Processor], *, people: bool) -> structlog.stdlib.ProcessorFormatter:
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if people else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    )
