"""Writes frames of the independent SEM into a watch directory, in either layout and any manner."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from isem_column import Knobs
from isem_manners import Delivery, Manner, Order

Layout = Literal["series", "single"]

_CHUNKS = 4
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One frame as it was written.

    Args:
        number: 1-based order of writing.
        stem: File stem in the watch directory (the same for all frames in the single layout).
        knobs: The instrument's settings that the text file states.
        disc_px: True blur disc diameter in px.
        exposed: Whether the exposure is good by the image's own grey values.
        image_sha: SHA-256 of the image file.
        text_sha: SHA-256 of the text file; empty where none was written.
        completed_at: UTC time at which the last byte was written.
        kind: `good`, `orphan-image` or `orphan-text` (one half alone), `bad-text` (a needed value is
            missing) or `torn-image` (image cut short).
    """

    number: int
    stem: str
    knobs: Knobs
    disc_px: float
    exposed: bool
    image_sha: str
    text_sha: str
    completed_at: dt.datetime
    kind: str = "good"


class NotTakenError(TimeoutError):
    """The pair of the single layout was not moved away in time."""


def sha(data: bytes) -> str:
    """Return the SHA-256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


class FrameWriter:
    """Puts image and text files where the daemon watches.

    Args:
        directory: Watch directory; must exist.
        layout: `series` names every frame anew, `single` waits for its one pair to be moved away first.
        korean_stems: In the series layout, name frames `ResponseImage_<date>,<time>`.
        stop: Set to end every wait.
    """

    def __init__(self, directory: Path, layout: Layout, *, korean_stems: bool, stop: threading.Event) -> None:
        self._directory = directory
        self._layout = layout
        self._korean_stems = korean_stems
        self._stop = stop

    def stem(self, number: int) -> str:
        """Return the stem of the frame with this 1-based number."""
        if self._layout == "single":
            return "ResponseImage"
        if self._korean_stems:
            moment = dt.datetime(2020, 2, 10, 21, 47, 54, tzinfo=dt.UTC) + dt.timedelta(seconds=7 * number)
            return f"ResponseImage_{moment:%Y%m%d,%H%M%S}"
        return f"frame-{number:06d}"

    def wait_until_taken(self, timeout_s: float) -> None:
        """Return once no half of the single pair is left in the watch directory; for `series`, at once.

        Raises:
            NotTakenError: The pair stayed longer than `timeout_s`.
        """
        if self._layout == "series":
            return
        deadline = time.monotonic() + timeout_s
        while any(self._directory.glob("ResponseImage.*")):
            if self._stop.wait(_POLL_S):
                return
            if time.monotonic() > deadline:
                raise NotTakenError(f"ResponseImage was not moved away within {timeout_s:g} s")

    def write(self, stem: str, image: bytes | None, text: bytes | None, manner: Manner) -> dt.datetime:
        """Write the halves that are given; return the UTC time at which they were first complete."""
        halves = [(f".{manner.image_suffix}", image), (".txt", text)]
        if manner.order is Order.TEXT_FIRST:
            halves.reverse()
        for position, (suffix, data) in enumerate(halves):
            if position and manner.gap_s:
                self._stop.wait(manner.gap_s)
            if data is not None:
                self._write_half(self._directory / f"{stem}{suffix}", data, manner)
        completed_at = dt.datetime.now(dt.UTC)
        if manner.announce_twice and self._layout == "series":
            self._stop.wait(0.15)
            for suffix, data in halves:
                if data is not None:
                    (self._directory / f"{stem}{suffix}").write_bytes(data)
        return completed_at

    def _write_half(self, path: Path, data: bytes, manner: Manner) -> None:
        if manner.delivery is Delivery.PLAIN:
            path.write_bytes(data)
        elif manner.delivery is Delivery.RENAMED:
            temporary = path.with_name(f"~{path.name}.tmp")
            temporary.write_bytes(data)
            self._stop.wait(0.05)
            temporary.replace(path)
        else:
            self._write_chunks(path, data, manner)

    def _write_chunks(self, path: Path, data: bytes, manner: Manner) -> None:
        starts = _chunk_starts(data, is_text=path.suffix == ".txt")
        last_pause_s = manner.chunk_pause_s
        if manner.last_pause_s is not None and path.suffix != ".txt":
            last_pause_s = manner.last_pause_s
        with path.open("wb", buffering=0) as stream:
            if manner.delivery is Delivery.PREALLOCATED:
                stream.write(bytes(len(data)))
                os.fsync(stream.fileno())
                self._stop.wait(manner.chunk_pause_s)
                stream.seek(0)
            for start, end in itertools.pairwise((*starts, len(data))):
                if start:
                    self._stop.wait(last_pause_s if start == starts[-1] else manner.chunk_pause_s)
                stream.write(data[start:end])


def _chunk_starts(data: bytes, *, is_text: bool) -> list[int]:
    """Return where chunks begin: quarters, and for a text also two digits into the value of WD.

    A reader that takes the text too early then finds a number that is well-formed and wrong.
    """
    starts = {position * len(data) // _CHUNKS for position in range(_CHUNKS)}
    if is_text:
        for key in (b"wd=", "wd=".encode("utf-16-le")):
            place = data.lower().find(key)
            if place >= 0:
                starts.add(place + len(key) + 2 * len(key) // 3)
    return sorted(starts)
