"""SEM of the crash harness: saves frames, carries out commands, and records every byte received as ground truth."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from semd.domain.axes import Axis, Parameters
from semd.protocol.action import Action
from semd.protocol.identity import action_id, digest
from semd.protocol.pairing import Layout
from semd.protocol.parameter_text import format_parameters
from semd.simulator.sem_link import HungUpError, SemLink

Kind = Literal["good", "damaged image", "bad text"]
_CYCLE: tuple[Kind, ...] = ("good", "good", "damaged image", "good", "bad text")
"""Good frames are answered, damaged images answered with HOLD and quarantined, bad texts quarantined."""
_FRAMES_OF_A_SAMPLE = 6
"""Few enough that no run ends for lack of progress, since the score never changes here."""
_MAGNIFICATION = 2000
_START = {Axis.WD: 10.0, Axis.BRIGHTNESS: 50.0, Axis.CONTRAST: 50.0}
_LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class SavedFrame:
    """One pair that was saved.

    Attributes:
        number: counted from 0.
        stem: stem of the files.
        kind: kind of the frame, which decides its due answer.
        image, text: bytes of the files.
        magnification: as written in the text; in the aisem dialect unique to the frame.
        identity: id that the action must have.
        during: number of the step during which the frame was saved.
    """

    number: int
    stem: str
    kind: Kind
    image: bytes
    text: bytes
    magnification: int
    identity: str
    during: int


@dataclass(slots=True)
class CrashSem:
    """SEM that saves a frame after every command, as NanoStation does, until `finish`.

    Attributes:
        watch: the watch directory.
        layout: layout of the frames; with `single`, a pair is saved only after the last one was taken.
        dialect: dialect of the link.
        models_digest: digest of the models, which is part of the ids.
        during: number of the present step, stored with every frame.
        frames: all frames saved.
        applied: ids of the actions, in order of application (text dialect).
        transcripts: bytes received by each connection.
        connected_at_s: monotonic time of the first bytes of each connection.
        dropped_at_s: monotonic time at which a connection was last cut on purpose, or None.
        cut_next: True to cut the connection of the next command before its answer.
        finishing: set when no more frames are to be saved.
        stopping: set to end `serve`.
    """

    watch: Path
    layout: Layout
    dialect: str
    models_digest: str
    during: int = 0
    frames: list[SavedFrame] = field(default_factory=list)
    applied: list[str] = field(default_factory=list)
    transcripts: list[bytearray] = field(default_factory=list)
    connected_at_s: list[float] = field(default_factory=list)
    dropped_at_s: float | None = None
    cut_next: bool = False
    finishing: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)
    _knobs: dict[Axis, float] = field(default_factory=lambda: dict(_START))
    _saving: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, listener: socket.socket) -> None:
        """Save the first frame and serve the link until stopped."""
        self.scan()
        _ListeningLink(self, self.stopping.is_set).serve(listener, self.dialect)

    def scan(self) -> None:
        """Save the next frame; after a frame that gets no answer, save another once its files were taken."""
        with self._saving:
            while not self.finishing.is_set():
                frame = self._make()
                if not self._save(frame):
                    return
                if frame.kind != "bad text":
                    return
                self._wait_until_taken(frame)

    def finish(self) -> None:
        """Save no more frames; return when the last one is complete."""
        self.finishing.set()
        with self._saving:
            return

    def on_action(self, action: Action) -> Callable[[], None]:
        """Apply an action and continue to scan."""
        self._knobs.update(action.targets)
        self.applied.append(action.id)
        return self._scan_or_cut()

    def on_working_distance(self, wd_mm: float) -> Callable[[], None]:
        """Move to a working distance in mm and scan."""
        self._knobs[Axis.WD] = wd_mm
        return self._scan_or_cut()

    def received(self, connection: int, data: bytes) -> None:
        """Record bytes received over a connection, counted from 0."""
        while len(self.transcripts) <= connection:
            self.transcripts.append(bytearray())
            self.connected_at_s.append(time.monotonic())
        self.transcripts[connection] += data

    def _scan_or_cut(self) -> Callable[[], None]:
        """Scan after the answer; if `cut_next` is set, scan and cut the connection without an answer."""
        if not self.cut_next:
            return self.scan
        self.cut_next = False
        self.scan()
        self.dropped_at_s = time.monotonic()
        raise HungUpError

    def _make(self) -> SavedFrame:
        number = len(self.frames)
        kind = _CYCLE[number % len(_CYCLE)]
        is_aisem = self.dialect == "aisem"
        magnification = _MAGNIFICATION + (number if is_aisem else 0)
        parameters = Parameters(
            magnification=float(magnification),
            wd_mm=1e6 if kind == "bad text" else self._knobs[Axis.WD],
            brightness=self._knobs[Axis.BRIGHTNESS],
            contrast=self._knobs[Axis.CONTRAST],
            sample=f"sample {number // _FRAMES_OF_A_SAMPLE}",
        )
        stem = "ResponseImage" if self.layout is Layout.SINGLE else f"frame-{number:06d}"
        image = f"no image at all, number {number}".encode() if kind == "damaged image" else _picture(number)
        text = format_parameters(parameters).encode()
        identity = action_id(stem, digest(image), digest(text), self.models_digest)
        return SavedFrame(number, stem, kind, image, text, magnification, identity, self.during)

    def _save(self, frame: SavedFrame) -> bool:
        image, text = self._paths(frame)
        while self.layout is Layout.SINGLE and (image.exists() or text.exists()):
            if self.stopping.is_set():
                return False
            time.sleep(_LOOK_S)
        self.frames.append(frame)
        image.write_bytes(frame.image)
        text.write_bytes(frame.text)
        return True

    def _wait_until_taken(self, frame: SavedFrame) -> None:
        while any(path.exists() for path in self._paths(frame)) and not self.stopping.is_set():
            time.sleep(_LOOK_S)

    def _paths(self, frame: SavedFrame) -> tuple[Path, Path]:
        return self.watch / f"{frame.stem}.jpg", self.watch / f"{frame.stem}.txt"


class _ListeningLink(SemLink):
    """Link that records every received byte before it is interpreted."""

    def __init__(self, sem: CrashSem, stopped: Callable[[], bool]) -> None:
        super().__init__(sem, stopped)
        self._sem = sem
        self._count = 0
        self._present: socket.socket | None = None

    def _receive(self, connection: socket.socket) -> bytes:
        if connection is not self._present:
            self._present = connection
            self._count += 1
        data = super()._receive(connection)
        self._sem.received(self._count - 1, data)
        return data


def _picture(seed: int) -> bytes:
    """Make a smooth random image as JPEG."""
    coarse = np.random.default_rng(seed).integers(60, 190, (12, 16), dtype=np.uint8)
    return cv2.imencode(".jpg", cv2.resize(coarse, (640, 480)))[1].tobytes()
