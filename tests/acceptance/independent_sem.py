"""An independent virtual SEM: speaks the outside contract and shares no code with the package under test.

Parts: `isem_samples` (specimens), `isem_column` (optics, detector), `isem_manners` (how a frame is written),
`isem_writer` (files), `isem_protocol` (strict action reader), `isem_server` and `isem_aisem` (sockets). This
module joins them: an action that arrives over the link turns the knobs, and ADJUST or HOLD makes the SEM scan
again.
"""

from __future__ import annotations

import datetime as dt
import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
from isem_aisem import AisemServer, WdMag
from isem_column import Column, GreyImage, exposure_good
from isem_manners import GENTLE, Manner, encode_image, encode_text
from isem_protocol import ReadAction
from isem_server import LinkFaults, SemServer, TextServer
from isem_writer import FrameRecord, FrameWriter, Layout, NotTakenError, sha

Dialect = Literal["text", "aisem"]
ExtraKind = Literal["orphan-image", "orphan-text", "bad-text", "torn-image"]
Limits = dict[str, tuple[float, float]]

ALL_AXES = ("wd", "brightness", "contrast")
WIDE_LIMITS: Limits = {"wd": (2.0, 40.0), "brightness": (0.0, 100.0), "contrast": (0.0, 100.0)}
_TICK_S = 0.02
_TAKEN_TIMEOUT_S = 60.0


class VirtualSem:
    """The SEM side of the contract, running in threads of the test process.

    Args:
        watch_dir: Where frames are written; must exist.
        column: Specimen, optics and knobs.
        layout: `series` or `single`.
        dialect: Wire dialect of the link.
        axes: The axes the daemon is configured to control.
        limits: Axis name to the (low, high) limits the daemon is configured with.
        manners: Used in turn, one for each frame.
        faults: Misbehaviour of the `text` link.
        drop_before_reply: Command numbers that the `aisem` link does not answer.
        max_frames: Scan no further frame once so many were written (None: no limit).
        rescan_after_s: Scan again after so long without a frame or an application, like an operator who
            presses the button when nothing moves (None: never).
        korean_stems: Name series frames `ResponseImage_<date>,<time>`.
        seed: Seed of key order.
    """

    def __init__(
        self,
        watch_dir: Path,
        column: Column,
        *,
        layout: Layout = "series",
        dialect: Dialect = "text",
        axes: tuple[str, ...] = ALL_AXES,
        limits: Limits = WIDE_LIMITS,
        manners: Sequence[Manner] = (GENTLE,),
        faults: LinkFaults | None = None,
        drop_before_reply: frozenset[int] = frozenset(),
        max_frames: int | None = None,
        rescan_after_s: float | None = None,
        korean_stems: bool = False,
        seed: int = 0,
    ) -> None:
        self.watch_dir = watch_dir
        self.column = column
        self.layout: Layout = layout
        self.dialect: Dialect = dialect
        self.axes = axes
        self.limits = limits
        self.frames: list[FrameRecord] = []
        self.troubles: list[str] = []
        self.server: SemServer = (
            TextServer(axes, self._apply_action, faults or LinkFaults())
            if dialect == "text"
            else AisemServer(self._apply_command, self.scanning, drop_before_reply=drop_before_reply)
        )
        self._manners = itertools.cycle(manners)
        self._max_frames = max_frames
        self._rescan_after_s = rescan_after_s
        self._rng = np.random.default_rng(seed)
        self._stop = threading.Event()
        self._wanted = threading.Event()
        self._scanning = False
        self._scans = 0
        self._finished = False
        self._moved_at = time.monotonic()
        self._last_id: str | None = None
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._writer = FrameWriter(watch_dir, layout, korean_stems=korean_stems, stop=self._stop)
        self._thread = threading.Thread(target=self._scan_loop, daemon=True)
        self.server.listen()

    def __enter__(self) -> Self:
        """Start the scanning thread; no frame is written before `scan` is called."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop scanning and close the link."""
        self._stop.set()
        self._thread.join(timeout=30.0)
        self.server.close()

    @property
    def text_link(self) -> TextServer:
        """Return the link of the `text` dialect."""
        if not isinstance(self.server, TextServer):
            raise TypeError(f"the link speaks {self.dialect}")
        return self.server

    @property
    def aisem_link(self) -> AisemServer:
        """Return the link of the `aisem` dialect."""
        if not isinstance(self.server, AisemServer):
            raise TypeError(f"the link speaks {self.dialect}")
        return self.server

    def scan(self) -> None:
        """Ask for one scan, as the operator does to start the loop."""
        self._finished = False
        self._wanted.set()

    def scanning(self) -> bool:
        """Return whether a scan that was asked for is not yet completely written."""
        return self._wanted.is_set() or self._scanning

    def finished(self) -> bool:
        """Return whether the last applied action was DONE or GIVE-UP (`text` link)."""
        return self._finished

    def use_manners(self, manners: Sequence[Manner]) -> None:
        """Write the following frames in these manners, in turn."""
        self._manners = itertools.cycle(manners)

    def allow(self, frames: int) -> None:
        """Scan at most this many frames more; faulty extras do not count."""
        self._max_frames = self._scans + frames

    def operator_turns(self, **knobs: float) -> None:
        """Turn knobs by hand (`wd_mm`, `brightness`, `contrast`)."""
        with self._lock:
            self.column.turn(**knobs)

    def write_extra(self, kind: ExtraKind) -> FrameRecord:
        """Write one faulty frame of the series layout beside the loop and return its record.

        `orphan-*` is one half alone, `bad-text` lacks WD, `torn-image` ends after 60 % of its bytes.
        """
        if self.layout != "series":
            raise ValueError("faulty extra frames need the series layout")
        image_data, text_data, record = self._expose(GENTLE, kind)
        if kind == "bad-text":
            text_data = b"".join(line for line in text_data.splitlines(True) if not line.startswith(b"WD="))
        elif kind == "torn-image":
            image_data = image_data[: len(image_data) * 6 // 10]
        image = None if kind == "orphan-text" else image_data
        text = None if kind == "orphan-image" else text_data
        completed_at = self._writer.write(record.stem, image, text, GENTLE)
        return self._complete(record, image, text, completed_at)

    def _apply_action(self, action: ReadAction) -> None:
        """Set the targets; scan again for ADJUST and HOLD."""
        with self._lock:
            targets = {("wd_mm" if axis == "wd" else axis): value for axis, value in action.targets.items()}
            self.column.turn(**targets)
            self._last_id = action.action_id
            self._moved_at = time.monotonic()
            self._finished = action.status in ("DONE", "GIVE-UP")
            if not self._finished:
                self._wanted.set()

    def _apply_command(self, command: WdMag) -> None:
        """Set the working distance and scan again."""
        with self._lock:
            if command.magnification != self.column.knobs.magnification:
                self.troubles.append(f"{command} asks for another magnification than {self.column.knobs}")
            self.column.turn(wd_mm=command.wd_mm)
            self._moved_at = time.monotonic()
            self._wanted.set()

    def _scan_loop(self) -> None:
        while not self._stop.is_set():
            if not self._wanted.wait(_TICK_S):
                idle_s = time.monotonic() - self._moved_at
                if self._rescan_after_s is None or self._finished or idle_s < self._rescan_after_s:
                    continue
            self._scanning = True
            self._wanted.clear()
            try:
                self._scan_once()
            except NotTakenError as error:
                self.troubles.append(str(error))
            finally:
                self._moved_at = time.monotonic()
                self._scanning = False

    def _scan_once(self) -> None:
        if self._max_frames is not None and self._scans >= self._max_frames:
            return
        self._writer.wait_until_taken(_TAKEN_TIMEOUT_S)
        if self._stop.is_set():
            return
        self._scans += 1
        manner = next(self._manners)
        image, text, record = self._expose(manner, "good")
        completed_at = self._writer.write(record.stem, image, text, manner)
        self._complete(record, image, text, completed_at)

    def _expose(self, manner: Manner, kind: str) -> tuple[bytes, bytes, FrameRecord]:
        """Scan and encode; return image bytes, text bytes and a record without hashes."""
        with self._lock:
            pixels: GreyImage = self.column.scan()
            knobs = self.column.knobs
            text = encode_text(knobs, "specimen-1", self._last_id, manner, self._rng)
            number = next(self._numbers)
            record = FrameRecord(
                number=number,
                stem=self._writer.stem(number),
                knobs=knobs,
                disc_px=self.column.disc_px(),
                exposed=exposure_good(pixels),
                image_sha="",
                text_sha="",
                completed_at=dt.datetime.now(dt.UTC),
                kind=kind,
            )
        return encode_image(pixels, manner), text, record

    def _complete(
        self, record: FrameRecord, image: bytes | None, text: bytes | None, completed_at: dt.datetime
    ) -> FrameRecord:
        done = replace(
            record,
            image_sha=sha(image) if image is not None else "",
            text_sha=sha(text) if text is not None else "",
            completed_at=completed_at,
        )
        with self._lock:
            self.frames.append(done)
        return done
