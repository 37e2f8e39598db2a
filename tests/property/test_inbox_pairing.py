"""Whatever a writer's manners: each frame comes out of the inbox once, and never half-written.

The writer's steps are mixed at random with looks of the inbox. It never rests as long as `quiet_s` while it has
work left, so that nothing excuses an answer to anything but the final bytes of both files.
"""

from __future__ import annotations

import itertools
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import cv2
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semd.decision.rules import DEFAULT_LIMITS
from semd.domain.axes import AXES
from semd.inbox.frame import LoadedFrame
from semd.inbox.image import FrameSize
from semd.inbox.inbox import Inbox, InboxTimeouts
from semd.inbox.load import FrameLoader
from semd.inbox.watch import Hints
from semd.protocol.identity import digest
from semd.protocol.pairing import Dialect

TIMEOUTS = InboxTimeouts(rescan_s=1.0, quiet_s=0.5, settle_s=10.0)
LOADER = FrameLoader(Dialect.COXEM, FrameSize(160, 120), AXES, DEFAULT_LIMITS)
TEXT = "MAG=2000\r\nWD={wd}\r\nBRIGHTNESS=40\r\nCONTRAST=50\r\n"
PICTURES = [np.random.default_rng(seed).integers(20, 220, (120, 160), dtype=np.uint8) for seed in range(4)]


class Manner(StrEnum):
    """Way in which a file comes into being."""

    AT_ONCE = "at once"
    PIECES = "pieces"
    REOPENED = "closed after each piece"
    ALLOCATED = "full size first"
    RENAMED = "temporary name"


@dataclass
class Writer:
    """Writes one file in steps; tells of each what an event would tell."""

    directory: Path
    name: str
    data: bytes
    manner: Manner
    cuts: int

    def steps(self) -> list[Callable[[], Hints]]:
        bounds = [len(self.data) * part // self.cuts for part in range(self.cuts + 1)]
        pieces = list(itertools.pairwise(bounds))
        if self.manner is Manner.AT_ONCE:
            return [lambda: self._write(0, len(self.data), closed=True)]
        if self.manner is Manner.RENAMED:
            return [self._write_temporary, self._rename]
        allocate = [self._allocate] if self.manner is Manner.ALLOCATED else []
        reopened = self.manner is Manner.REOPENED
        return allocate + [
            lambda start=start, end=end: self._write(start, end, closed=reopened or end == len(self.data))
            for start, end in pieces
        ]

    def _write(self, start: int, end: int, *, closed: bool) -> Hints:
        path = self.directory / self.name
        with path.open("rb+" if path.exists() else "wb") as file:
            file.seek(start)
            file.write(self.data[start:end])
        return Hints({self.name}, {self.name} if closed else set())

    def _allocate(self) -> Hints:
        (self.directory / self.name).write_bytes(bytes(len(self.data)))
        return Hints({self.name}, set())

    def _write_temporary(self) -> Hints:
        (self.directory / f"{self.name}.tmp").write_bytes(self.data)
        return Hints({f"{self.name}.tmp"}, {f"{self.name}.tmp"})

    def _rename(self) -> Hints:
        (self.directory / f"{self.name}.tmp").rename(self.directory / self.name)
        return Hints({f"{self.name}.tmp", self.name}, {self.name})


FILES = st.tuples(st.sampled_from(Manner), st.integers(2, 5))
FRAMES = st.lists(st.tuples(st.sampled_from([".jpg", ".png", ".bmp"]), FILES, FILES), min_size=1, max_size=3)


@given(FRAMES, st.data(), st.booleans())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_each_frame_comes_once_and_whole(
    frames: list[tuple[str, tuple[Manner, int], tuple[Manner, int]]], data: st.DataObject, events: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        queues: list[list[Callable[[], Hints]]] = []
        expected: dict[str, tuple[str, str]] = {}
        for number, (suffix, image_manner, text_manner) in enumerate(frames):
            image = cv2.imencode(suffix, PICTURES[number])[1].tobytes()
            text = TEXT.format(wd=9500 + number).encode()
            expected[f"f{number}"] = digest(image), digest(text)
            queues.append(Writer(directory, f"f{number}{suffix}", image, *image_manner).steps())
            queues.append(Writer(directory, f"f{number}.txt", text, *text_manner).steps())
        inbox = Inbox(directory, LOADER, TIMEOUTS, lambda _: False)
        now_s = 0.0
        found: Counter[str] = Counter()

        def look(hints: Hints, wait_s: float) -> None:
            nonlocal now_s
            now_s += wait_s
            for item in inbox.poll(hints, now_s):
                content = item.content
                assert isinstance(content, LoadedFrame), content.error
                assert content.image_error is None
                assert (content.image_digest, content.text_digest) == expected[content.stem]
                found[content.stem] += 1
                inbox.settle(item)

        while any(queues):
            # Of files that are being written none rests for `quiet_s`: turns are taken, at least 0.4 s a round.
            round_of = data.draw(st.permutations([queue for queue in queues if queue]))
            for queue in round_of:
                hints = queue.pop(0)()
                look(hints if events else Hints(), 0.4 / len(round_of))
        for _ in range(30):
            look(Hints(), 0.6)
        assert found == Counter(expected.keys())
