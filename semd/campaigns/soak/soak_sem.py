"""The SEM of the soak: saves frames as fast as they are answered, and counts what became of each."""

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
"""So that runs end and begin, and none is given up for want of progress each time."""
_KEPT_FRAMES = 200
"""Ended frames whose files stay in the watch directory for a while; then the lab clears them away."""
_LOOK_S = 0.002
_REST_S = 0.02
_QUARANTINE_S = 0.25


@dataclass(frozen=True, slots=True)
class SoakFates:
    """SoakFates of the frames.

    Attributes:
        written: saved so far.
        ended: of them answered or quarantined.
        lost: numbers of those that have not ended.
        duplicated: numbers of those that were answered twice, or answered though they had to be quarantined alone.
        otherwise: how many ended otherwise than their fault should end; a writer that is stopped for long makes some.
    """

    written: int
    ended: int
    lost: tuple[int, ...]
    duplicated: tuple[int, ...]
    otherwise: int


@dataclass(slots=True)
class SoakSem:
    """Writes frames, and is what the commands of a `SemLink` act on.

    Attributes:
        watch: the watch directory.
        quarantine: of the daemon.
        seed: of pictures and faults.
        writer_faults: share of the pairs that are saved in a wrong way.
        window: frames that may be under way at once.
        answers: ids of the actions that each frame got, by its number.
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
        """Frames that were answered or quarantined, as far as was looked."""
        return len(self._ended)

    def write(self, frames: int) -> None:
        """Save so many frames, never more under way than the window."""
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
        """Note which frame was answered; the knobs of this SEM are stuck, as the stand-in never turns them."""
        number = number_of(action.frame)
        self.answers.setdefault(number, []).append(action.id)
        self._ended.add(number)
        return _nothing

    def on_working_distance(self, wd_mm: float) -> Callable[[], None]:
        """There is none: the soak speaks the text dialect."""
        raise NotImplementedError(f"WDMAG,{wd_mm:g}")

    def look(self) -> None:
        """Look into quarantine, now and then; what was counted is removed, for a year's worth goes through it."""
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
        """Remove files of frames that ended long ago, as a lab does: the directory must not grow for ever."""
        while self._cleared < self.written - _KEPT_FRAMES and self._cleared in self._ended:
            for suffix in (".jpg", ".txt"):
                (self.watch / f"frame-{self._cleared:06d}{suffix}").unlink(missing_ok=True)
            self._cleared += 1


def number_of(stem: str) -> int:
    """Number of the frame with this stem; -1 for a name that is none of ours."""
    digits = stem.removeprefix("frame-")
    return int(digits) if digits.isdecimal() else -1


def _nothing() -> None:
    """After an answer nothing is to be done: the writer goes on by itself."""


def _text(number: int) -> str:
    return format_parameters(
        Parameters(2000.0, 10.0, 50.0, 50.0, hv_kv=15.0, sample=f"sample {number // _FRAMES_OF_A_SAMPLE}")
    )


def _pictures(seed: int) -> list[NDArray[np.uint8]]:
    """Soft random pictures, uint8 (240, 320)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 190, (_PICTURES, 12, 16), dtype=np.uint8)
    return [np.asarray(cv2.resize(picture, (WIDTH_PX, HEIGHT_PX)), np.uint8) for picture in coarse]
