"""SEM of the soak: saves frames as fast as they are answered, and counts the fates of the frames."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from semd.domain.axes import Parameters
from semd.protocol.action import Action
from semd.protocol.parameter_text import format_parameters
from semd.simulator.fault_plan import FaultPlan
from semd.simulator.faulty_writer import FaultyWriter, WriterFault

WIDTH_PX, HEIGHT_PX = 320, 240
_PICTURES = 16
_FRAMES_OF_A_SAMPLE = 20
"""Frames of a run: few enough that not every run ends for lack of progress."""
_KEPT_FRAMES = 200
"""Ended frames whose files stay in the watch directory before they are removed, as a lab does."""
_LOOK_S = 0.002
_REST_S = 0.02
_QUARANTINE_S = 0.25


@dataclass(frozen=True, slots=True)
class SoakFates:
    """SoakFates of the frames.

    Attributes:
        written: number of frames saved.
        ended: number of frames answered or quarantined.
        lost: numbers of the frames that have not ended.
        duplicated: numbers of the frames with more than one action.
        otherwise: number of frames that ended in another way than their fault implies, for example after a long
            interruption of the writer.
    """

    written: int
    ended: int
    lost: tuple[int, ...]
    duplicated: tuple[int, ...]
    otherwise: int


@dataclass(slots=True)
class SoakSem:
    """SEM that writes frames and receives the commands of a `SemLink`.

    Attributes:
        watch: the watch directory.
        quarantine: quarantine directory of the daemon.
        seed: seed of images and faults.
        writer_faults: share of the pairs that are saved with a fault.
        window: largest number of frames in flight.
        answers: ids of the actions of each frame, by frame number.
        quarantined: numbers of the frames with a record in quarantine.
        stopping: set to end `write`.
    """

    watch: Path
    quarantine: Path
    seed: int
    writer_faults: float
    window: int
    answers: dict[int, list[str]] = field(default_factory=dict)
    quarantined: set[int] = field(default_factory=set)
    stopping: threading.Event = field(default_factory=threading.Event)
    written: int = 0
    happened: Counter[WriterFault] = field(default_factory=Counter)
    _writer: FaultyWriter = field(init=False)
    _cleared: int = 0
    _ended: set[int] = field(default_factory=set)
    _looked_s: float = float("-inf")

    def __post_init__(self) -> None:
        plan = FaultPlan(
            share=self.writer_faults,
            kinds=tuple(WriterFault),
            rng=random.Random(self.seed),  # noqa: S311 - no secret
            happened=self.happened,
        )
        self._writer = FaultyWriter(self.watch, plan=plan, rest_s=_REST_S, stopped=self.stopping.is_set)

    @property
    def ended(self) -> int:
        """Number of frames answered or quarantined, as of the last `look`."""
        return len(self._ended)

    def write(self, frames: int) -> None:
        """Save `frames` frames, with at most `window` of them in flight."""
        pictures = _pictures(self.seed)
        while self.written < frames and not self.stopping.is_set():
            while self.written - len(self._ended) >= self.window:
                if self.stopping.wait(_LOOK_S):
                    return
            number = self.written
            self._writer.write(number, pictures[number % _PICTURES], _text(number))
            self.written += 1
            self._clear()

    def on_action(self, action: Action) -> Callable[[], None]:
        """Record the answered frame; the settings never change, since the stand-in policy never moves."""
        number = number_of(action.frame)
        self.answers.setdefault(number, []).append(action.id)
        self._ended.add(number)
        return _nothing

    def on_working_distance(self, wd_mm: float) -> Callable[[], None]:
        """Raise an error: the soak uses the text dialect, which has no such command."""
        raise NotImplementedError(f"WDMAG,{wd_mm:g}")

    def look(self) -> None:
        """Count and remove the records in quarantine, at most every `_QUARANTINE_S`; kept, they would fill the disk."""
        now_s = time.monotonic()
        if now_s - self._looked_s < _QUARANTINE_S or not self.quarantine.is_dir():
            return
        self._looked_s = now_s
        for note in self.quarantine.glob("*.reason.txt"):
            number = number_of(note.name.partition("~")[2].partition(".")[0])
            self.quarantined.add(number)
            if self._writer.ends.get(number) == "quarantined":
                self._ended.add(number)
            note.unlink(missing_ok=True)

    def fates(self) -> SoakFates:
        """SoakFates of the frames that were written."""
        numbers = range(self.written)
        due = self._writer.ends
        ended = [number for number in numbers if number in self.answers or number in self.quarantined]
        counts = {number: len(self.answers.get(number, ())) for number in numbers}
        otherwise = sum(
            (due.get(number) == "quarantined") != (number not in self.answers)
            or (due.get(number) == "held") != (number in self.answers and number in self.quarantined)
            for number in ended
        )
        return SoakFates(
            written=self.written,
            ended=len(ended),
            lost=tuple(sorted(set(numbers) - set(ended))),
            duplicated=tuple(number for number, count in counts.items() if count > 1),
            otherwise=otherwise,
        )

    def _clear(self) -> None:
        """Remove the files of frames that ended long ago, as a lab does, so that the directory stays small."""
        while self._cleared < self.written - _KEPT_FRAMES and self._cleared in self._ended:
            for suffix in (".jpg", ".txt"):
                (self.watch / f"frame-{self._cleared:06d}{suffix}").unlink(missing_ok=True)
            self._cleared += 1


def number_of(stem: str) -> int:
    """Parse the frame number from a stem; -1 for any other name."""
    digits = stem.removeprefix("frame-")
    return int(digits) if digits.isdecimal() else -1


def _nothing() -> None:
    """Do nothing after an answer; the writer continues by itself."""


def _text(number: int) -> str:
    return format_parameters(
        Parameters(2000.0, 10.0, 50.0, 50.0, hv_kv=15.0, sample=f"sample {number // _FRAMES_OF_A_SAMPLE}")
    )


def _pictures(seed: int) -> list[NDArray[np.uint8]]:
    """Make smooth random images, uint8 (240, 320)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 190, (_PICTURES, 12, 16), dtype=np.uint8)
    return [np.asarray(cv2.resize(picture, (WIDTH_PX, HEIGHT_PX)), np.uint8) for picture in coarse]
