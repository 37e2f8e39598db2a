"""The daemon without its process: inbox, answerer and ledger around a scorer that fails on chosen frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np

from semd.daemon.answering import Answerer
from semd.daemon.daemon_process import reload_frame
from semd.daemon.frame_files import FrameFolders
from semd.decision.rules import DEFAULT_LIMITS, RunRules
from semd.domain.axes import AXES
from semd.domain.frame_score import FrameScore
from semd.inbox.frame import LoadedFrame
from semd.inbox.image import FrameSize
from semd.inbox.inbox import Inbox, InboxTimeouts
from semd.inbox.load import FrameLoader
from semd.inbox.watch import Hints
from semd.outbox.ledger import Ledger
from semd.outbox.spool import Spool
from semd.pipeline import Pipeline
from semd.protocol.action import Action, decode_action
from semd.protocol.pairing import Dialect

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LOADER = FrameLoader(Dialect.COXEM, FrameSize(160, 120), AXES, DEFAULT_LIMITS)
TEXT = b"MAG=2000\r\nWD=9500\r\nBRIGHTNESS=40\r\nCONTRAST=50\r\n"
MODELS = "0" * 64


def png(seed: int) -> bytes:
    return cv2.imencode(".png", np.random.default_rng(seed).integers(20, 220, (120, 160), dtype=np.uint8))[1].tobytes()


class DiedError(BaseException):
    """The process is gone."""


class Scorer:
    """Fails on frames whose first pixel has been named."""

    def __init__(self) -> None:
        self.fails_on: dict[int, BaseException] = {}
        self.asked = 0

    def fail_on(self, data: bytes, error: BaseException) -> None:
        self.fails_on[int(cv2.imdecode(np.frombuffer(data, np.uint8), 0)[0, 0])] = error

    def judge(self, image: np.ndarray, magnification: float) -> FrameScore:
        self.asked += 1
        error = self.fails_on.get(int(image[0, 0]))
        if error is not None:
            raise error
        return FrameScore(5.0)


class DaemonWithoutProcess:
    """Directories, inbox, answerer and ledger; the test moves the clock and looks into the watch directory."""

    def __init__(self, root: Path, layout: str) -> None:
        self.root, self.layout = root, layout
        self.watch = root / "watch"
        self.watch.mkdir()
        self.scorer = Scorer()
        self.actor_error: Exception | None = None
        self.now_s = 0.0

    def act(self, state: np.ndarray) -> np.ndarray:
        if self.actor_error is not None:
            raise self.actor_error
        return np.zeros(3, np.float32)

    @contextmanager
    def process(self) -> Iterator[None]:
        spool = Spool(self.root / "actions")
        archive = self.root / "archive" if self.layout == "single" else None
        with Ledger(self.root / "ledger.sqlite", now=lambda: NOW, floor_seq=spool.highest_seq()) as self.ledger:
            self.answerer = Answerer(
                Pipeline(self.scorer, self.act, RunRules(), MODELS),
                self.ledger,
                spool,
                FrameFolders(archive, self.root / "quarantine"),
                lifetime=timedelta(seconds=60),
                now=lambda: NOW,
                reload=lambda row: reload_frame(LOADER, self.watch, row),
            )
            self.inbox = Inbox(self.watch, LOADER, InboxTimeouts(), self.ledger.knows)
            self.answerer.recover()
            yield

    def save(self, stem: str, image: bytes | None, text: bytes | None = TEXT) -> None:
        if image is not None:
            (self.watch / f"{stem}.png").write_bytes(image)
        if text is not None:
            (self.watch / f"{stem}.txt").write_bytes(text)

    def look(self) -> None:
        """Poll the watch directory until every timeout has passed, and answer or reject what is found."""
        for wait_s in (0.0, 1.0, 11.0, 61.0):
            self.now_s += wait_s
            for item in self.inbox.poll(Hints(), self.now_s, force_rescan=True):
                if isinstance(item.content, LoadedFrame):
                    self.answerer.answer(item.content, item.fingerprint)
                else:
                    self.answerer.reject(item.content, item.fingerprint)
                self.inbox.settle(item)

    def actions(self) -> list[Action]:
        return [decode_action(path.read_bytes()) for path in sorted((self.root / "actions").glob("action-*.txt"))]

    def reasons(self) -> list[str]:
        return sorted(path.read_text().split(":")[0] for path in self.quarantine.glob("*.reason.txt"))

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    def quarantined(self) -> list[str]:
        names = (path.name for path in self.quarantine.glob("*") if not path.name.endswith(".reason.txt"))
        return sorted(name.split("~")[1] for name in names)
