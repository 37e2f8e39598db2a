"""The single layout, dying at every step: the next pair may be there already when the daemon comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

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
from semd.protocol.action import Action, decode_action
from semd.protocol.pairing import Dialect
from semd.testing import NO_MODELS_DIGEST, ConstantScorer, still_actor

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LOADER = FrameLoader(Dialect.COXEM, FrameSize(160, 120), AXES, DEFAULT_LIMITS)
TEXT = b"MAG=2000\r\nWD=9500\r\nBRIGHTNESS=40\r\nCONTRAST=50\r\n"  # the same for every frame, as after a HOLD
IMAGES = [
    cv2.imencode(".png", np.random.default_rng(seed).integers(20, 220, (120, 160), dtype=np.uint8))[1].tobytes()
    for seed in range(3)
]
STEPS = [(consume, "move_file"), (frame_files, "write_reason")] + [
    (kind, name)
    for kind, names in (
        (Ledger, ("claim", "decide", "published", "reject", "quarantined")),
        (Spool, ("publish",)),
    )
    for name in names
]


class DiedError(BaseException):
    """The process is gone: not even `except Exception` sees it."""


class Life:
    """Counts down at each step's begin and end; dies at zero."""

    def __init__(self, left: int | None) -> None:
        self.left = left

    def step(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise DiedError

    def mortal(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.step()
            result = function(*arguments, **named)
            self.step()
            return result

        return call


class Desk:
    """The directories, and the daemon's life on them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.watch = root / "watch"
        self.watch.mkdir()

    def save(self, image: bytes, text: bytes = TEXT) -> None:
        (self.watch / "R.png").write_bytes(image)
        (self.watch / "R.txt").write_bytes(text)

    @contextmanager
    def daemon(self) -> Iterator[tuple[Answerer, Inbox]]:
        spool = Spool(self.root / "actions")
        with Ledger(self.root / "ledger.sqlite", now=lambda: NOW, floor_seq=spool.highest_seq()) as ledger:
            answerer = Answerer(
                Pipeline(ConstantScorer(), still_actor, RunRules(), NO_MODELS_DIGEST),
                ledger,
                spool,
                FrameFolders(self.root / "archive", self.root / "quarantine"),
                lifetime=timedelta(seconds=60),
                now=lambda: NOW,
                reload=lambda row: reload_frame(LOADER, self.watch, row),
            )
            yield answerer, Inbox(self.watch, LOADER, InboxTimeouts(), ledger.knows)

    def look(self, answerer: Answerer, inbox: Inbox) -> None:
        answerer.recover()
        for now_s in (0.0, 1.0, 12.0):
            for item in inbox.poll(Hints(), now_s, force_rescan=True):
                if isinstance(item.content, LoadedFrame):
                    answerer.answer(item.content, item.fingerprint)
                else:
                    answerer.reject(item.content, item.fingerprint)
                inbox.settle(item)

    def actions(self) -> list[Action]:
        return [decode_action(path.read_bytes()) for path in sorted((self.root / "actions").glob("action-*.txt"))]

    def images(self, folder: str) -> list[bytes]:
        return [path.read_bytes() for path in sorted((self.root / folder).glob("*.png"))]


@pytest.mark.parametrize("first", ["good", "damaged image", "bad text"])
@pytest.mark.parametrize("lives", range(18))
def test_every_pair_ends_once(tmp_path: Path, first: str, lives: int, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path)
    image = IMAGES[0][:-40] if first == "damaged image" else IMAGES[0]
    desk.save(image, TEXT.replace(b"9500", b"nan") if first == "bad text" else TEXT)
    life = Life(lives)
    with monkeypatch.context() as patch, desk.daemon() as (answerer, inbox):
        for owner, name in STEPS:
            patch.setattr(owner, name, life.mortal(getattr(owner, name)))
        with suppress(DiedError):
            desk.look(answerer, inbox)
    if not list(desk.watch.iterdir()):
        desk.save(IMAGES[1])  # NanoStation saw the pair go and did not wait for the daemon to come back
    with desk.daemon() as (answerer, inbox):
        desk.look(answerer, inbox)
        assert not list(desk.watch.iterdir())
        if not any(IMAGES[1] in desk.images(folder) for folder in ("archive", "quarantine")):
            desk.save(IMAGES[1])
            desk.look(answerer, inbox)
    seqs = [action.seq for action in desk.actions()]
    assert len(seqs) == (1 if first == "bad text" else 2)
    assert seqs == sorted(set(seqs))
    assert desk.images("archive") == ([IMAGES[0]] if first == "good" else []) + [IMAGES[1]]
    assert desk.images("quarantine") == ([] if first == "good" else [image])
    reasons = [path.read_text() for path in (tmp_path / "quarantine").glob("*.reason.txt")]
    assert len(reasons) == (0 if first == "good" else 1)
