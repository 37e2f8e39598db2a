"""Whatever the writer does and wherever the daemon dies: every complete frame ends in exactly one action or
quarantine record, and SEQ only ever rises.

The machine writes, half-writes, finishes, rewrites and renames files, polls the inbox with a clock of its own, and
lets the daemon die at any of its steps. What each frame must end in is decided by the writer's side alone.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from semd.daemon import frame_files
from semd.daemon.answering import Answerer
from semd.daemon.daemon_process import reload_frame
from semd.daemon.frame_files import FrameFolders
from semd.decision.rules import DEFAULT_LIMITS, RunRules
from semd.domain.axes import AXES
from semd.inbox import consume
from semd.inbox.frame import LoadedFrame
from semd.inbox.image import FrameSize
from semd.inbox.inbox import Inbox, InboxTimeouts
from semd.inbox.load import FrameLoader
from semd.inbox.watch import Hints
from semd.outbox.ledger import Ledger
from semd.outbox.spool import Spool
from semd.pipeline import Pipeline
from semd.protocol.action import decode_action
from semd.protocol.pairing import Dialect
from semd.testing import NO_MODELS_DIGEST, ConstantScorer, still_actor

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
TIMEOUTS = InboxTimeouts(rescan_s=1.0, quiet_s=0.5, settle_s=10.0)
GOOD = b"MAG=2000\r\nWD=9500\r\nBRIGHTNESS=40\r\nCONTRAST=50\r\n"
BAD = b"MAG=2000\r\nWD=nan\r\nBRIGHTNESS=40\r\nCONTRAST=50\r\n"
# Tiny frames keep the machine fast; the loader is told to expect them.
PICTURES = [
    cv2.imencode(".png", np.random.default_rng(seed).integers(0, 255, (240, 320), dtype=np.uint8))[1].tobytes()
    for seed in range(40)
]


class Died(BaseException):
    """The process is gone: not even `except Exception` sees it."""


class Mortal:
    """Passes every call on, until the one at which the process dies, just before or just after it."""

    def __init__(self, inner: object, machine: Machine) -> None:
        self._inner, self._machine = inner, machine

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return value

        def call(*arguments: Any, **named: Any) -> Any:
            self._machine.tick()
            result = value(*arguments, **named)
            self._machine.tick()
            return result

        return call


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="semd-property-"))
        self.watch = self.root / "watch"
        self.watch.mkdir()
        self.now_s = 0.0
        self.lives: int | None = None
        self.count = 0
        self.expected: dict[str, str] = {}  # stem -> "action" or "quarantine"
        self.half: str | None = None
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(consume, "move_file", self.mortal(consume.move_file))
        self.patch.setattr(frame_files, "write_reason", self.mortal(frame_files.write_reason))
        self.start()

    def teardown(self) -> None:
        self.lives = None
        self.finish_half()
        self.settle_down()
        self.ledger.close()
        self.patch.undo()
        try:
            self.check_all_ended()
        finally:
            shutil.rmtree(self.root)

    def mortal(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.tick()
            result = function(*arguments, **named)
            self.tick()
            return result

        return call

    def tick(self) -> None:
        if self.lives is not None:
            self.lives -= 1
            if self.lives < 0:
                self.lives = None
                raise Died

    def start(self) -> None:
        spool = Spool(self.root / "actions")
        self.ledger = Ledger(self.root / "ledger.sqlite", now=lambda: MOMENT, floor_seq=spool.highest_seq())
        loader = FrameLoader(Dialect.COXEM, FrameSize(320, 240), AXES, DEFAULT_LIMITS)
        self.answerer = Answerer(
            Pipeline(ConstantScorer(), still_actor, RunRules(), NO_MODELS_DIGEST),
            Mortal(self.ledger, self),  # type: ignore[arg-type]
            Mortal(spool, self),  # type: ignore[arg-type]
            FrameFolders(None, self.root / "quarantine"),
            lifetime=timedelta(seconds=60),
            now=lambda: MOMENT,
            reload=lambda row: reload_frame(loader, self.watch, row),
        )
        self.inbox = Inbox(self.watch, loader, TIMEOUTS, self.ledger.knows)
        self.started = False

    def restart(self) -> None:
        self.ledger.close()
        self.start()

    @rule(bad=st.sampled_from(["", "", "", "text", "image", "alone"]), text_first=st.booleans())
    @precondition(lambda self: self.count < len(PICTURES))
    def write(self, bad: str, text_first: bool) -> None:
        stem = f"frame-{self.count:03d}"
        image = PICTURES[self.count][:-30] if bad == "image" else PICTURES[self.count]
        self.count += 1
        halves = [(f"{stem}.png", image), (f"{stem}.txt", BAD if bad == "text" else GOOD)]
        if text_first:
            halves.reverse()
        for name, data in halves[: 1 if bad == "alone" else 2]:
            (self.watch / name).write_bytes(data)
        self.expected[stem] = "quarantine" if bad in ("text", "alone") else "action"

    @rule(cut=st.integers(0, 60))
    @precondition(lambda self: self.half is None and self.count < len(PICTURES))
    def write_slowly(self, cut: int) -> None:
        """Begin a frame whose text stops anywhere, also within a value."""
        stem = f"frame-{self.count:03d}"
        (self.watch / f"{stem}.png").write_bytes(PICTURES[self.count])
        (self.watch / f"{stem}.txt").write_bytes(GOOD[: min(cut, len(GOOD) - 3)])
        self.count += 1
        self.half = stem
        self.expected[stem] = "action"

    @rule()
    def finish_half(self) -> None:
        if self.half is not None:
            (self.watch / f"{self.half}.txt").write_bytes(GOOD)
            self.half = None

    @rule()
    def rewrite_the_same(self) -> None:
        """The same pair announced again: its files get new times, not new bytes."""
        for path in sorted(self.watch.iterdir())[:2]:
            path.write_bytes(path.read_bytes())

    @rule(data=st.binary(max_size=50))
    def stray(self, data: bytes) -> None:
        (self.watch / "~frame-000.png.tmp").write_bytes(data)
        (self.watch / "notes.doc").write_bytes(data)

    @rule(wait_s=st.sampled_from([0.1, 0.3]), closed=st.booleans(), lives=st.none() | st.integers(0, 14))
    def poll(self, wait_s: float, closed: bool, lives: int | None) -> None:
        # A half-written frame never rests so long that it would be given up: that is another rule's business.
        self.now_s += wait_s
        whole = {path.name for path in self.watch.iterdir() if self.half is None or self.half not in path.name}
        self.lives = lives
        try:
            self.look(Hints(whole, whole if closed else set()))
        except Died:
            self.restart()
        self.lives = None
        self.touch_half()

    def touch_half(self) -> None:
        """The slow writer is alive: it goes on writing the same beginning."""
        if self.half is not None:
            path = self.watch / f"{self.half}.txt"
            path.write_bytes(path.read_bytes())

    def look(self, hints: Hints) -> None:
        if not self.started:
            self.answerer.recover()
            self.started = True
        for item in self.inbox.poll(hints, self.now_s, force_rescan=True):
            self.started = False
            if isinstance(item.content, LoadedFrame):
                self.answerer.answer(item.content, item.fingerprint)
            else:
                self.answerer.reject(item.content, item.fingerprint)
            self.inbox.settle(item)
            self.started = True

    def settle_down(self) -> None:
        """Long enough for everything that can become complete or hopeless."""
        for _ in range(30):
            self.now_s += 0.6
            self.look(Hints())

    @invariant()
    def seq_rises(self) -> None:
        seqs = [action.seq for action in self.actions()]
        assert len(seqs) == len(set(seqs))

    def actions(self) -> list[Any]:
        return [decode_action(path.read_bytes()) for path in sorted((self.root / "actions").glob("action-*.txt"))]

    def check_all_ended(self) -> None:
        actions = self.actions()
        assert [action.seq for action in actions] == sorted(action.seq for action in actions)
        answered = Counter(action.frame for action in actions)
        reasons = Counter(
            path.name.split("~")[1].split(".")[0] for path in (self.root / "quarantine").glob("*.reason.txt")
        )
        for stem, end in self.expected.items():
            assert answered[stem] == (1 if end == "action" else 0), (stem, end, answered)
            if end == "quarantine":
                assert reasons[stem] == 1, (stem, end, reasons)
        assert set(answered) <= set(self.expected)


TestFramesEndOnce = Machine.TestCase
TestFramesEndOnce.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
