"""A year of frames goes through the inbox: of those whose files are gone it must remember nothing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from semd.decision.rules import DEFAULT_LIMITS
from semd.domain.axes import AXES
from semd.inbox.image import FrameSize
from semd.inbox.inbox import Inbox, InboxTimeouts
from semd.inbox.load import FrameLoader
from semd.inbox.watch import Hints
from semd.protocol.pairing import Dialect

TEXT = b"MAG=2000\r\nWD=9500\r\nBRIGHTNESS=40\r\nCONTRAST=50\r\n"
IMAGE = cv2.imencode(".png", np.random.default_rng(1).integers(20, 220, (120, 160), dtype=np.uint8))[1].tobytes()


def test_frames_that_were_cleared_away_are_forgotten(tmp_path: Path) -> None:
    loader = FrameLoader(Dialect.COXEM, FrameSize(160, 120), AXES, DEFAULT_LIMITS)
    inbox = Inbox(tmp_path, loader, InboxTimeouts(), lambda _: False)
    for number in range(20):
        names = {f"f{number}.png", f"f{number}.txt"}
        (tmp_path / f"f{number}.png").write_bytes(IMAGE)
        (tmp_path / f"f{number}.txt").write_bytes(TEXT)
        (item,) = inbox.poll(Hints(touched=names, closed=names), number * 10.0)
        inbox.settle(item)
        for name in names:
            (tmp_path / name).unlink()
        # An event tells of it before the next scan comes.
        assert inbox.poll(Hints(touched=names), number * 10.0 + 0.1) == []
    inbox.poll(Hints(), 1000.0)
    held = {name: len(part) for name, part in vars(inbox).items() if isinstance(part, dict)}
    assert held
    assert set(held.values()) == {0}
