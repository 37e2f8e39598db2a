"""A real daemon loop on real directories, with models that cost nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from semd.config import Config, load_config
from semd.daemon.answering import Answerer
from semd.daemon.daemon_process import LEDGER_FILE, reload_frame
from semd.daemon.frame_files import FrameFolders
from semd.daemon.health_probes import ProbeTargets
from semd.daemon.loop import Loop
from semd.inbox.inbox import Inbox, InboxTimeouts
from semd.inbox.load import FrameLoader
from semd.inbox.watch import Watch
from semd.outbox.ledger import Ledger
from semd.outbox.spool import Spool
from semd.pipeline import Pipeline
from semd.protocol.action import Action, decode_action
from semd.service.logs import configure_logs
from semd.service.notify import ServiceManager
from semd.testing import NO_MODELS_DIGEST, ConstantScorer, still_actor

TEXT = "MAG=2000\r\nWD={wd}\r\nBRIGHTNESS=40\r\nCONTRAST=50\r\nSAMPLE={sample}\r\n"
DEADLINE_S = 20.0


def picture(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (480, 640), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2) // 2 + 60


def jpeg(seed: int) -> bytes:
    return cv2.imencode(".jpg", picture(seed))[1].tobytes()


@dataclass
class DaemonUnderTest:
    """The daemon's loop on real directories, its answers and its log."""

    directory: Path
    config: Config
    answerers: list[Answerer] = field(default_factory=list)
    scorer: Any = field(default_factory=ConstantScorer)

    @property
    def watch(self) -> Path:
        return self.config.watch.directory

    @property
    def quarantine(self) -> Path:
        return self.config.state.directory / "quarantine"

    def actions(self) -> list[Action]:
        paths = sorted(self.config.actions.directory.rglob("action-*.txt"), key=lambda path: path.name)
        return [decode_action(path.read_bytes()) for path in paths]

    def reasons(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.quarantine.glob("*.reason.txt")}

    def events(self, name: str) -> list[dict[str, object]]:
        lines = (self.config.state.directory / "logs" / "daemon.log").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def write_good(self, stem: str, seed: int = 1, wd_um: float = 9500.0) -> None:
        (self.watch / f"{stem}.jpg").write_bytes(jpeg(seed))
        text = TEXT.format(wd=wd_um, sample=stem.encode("ascii", "replace").decode())
        (self.watch / f"{stem}.txt").write_text(text)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, (self.actions(), self.reasons())
            time.sleep(0.01)

    def answered(self, stem: str) -> Action:
        self.until(lambda: any(action.frame == stem for action in self.actions()))
        return next(action for action in self.actions() if action.frame == stem)

    @contextmanager
    def running(
        self, manager: ServiceManager | None = None, probe_targets: ProbeTargets | None = None
    ) -> Iterator[Loop]:
        """The daemon's loop in a thread, wired as `daemon.daemon_process` wires it."""
        config, state = self.config, self.config.state.directory
        configure_logs(state / "logs" / "daemon.log")
        stop = threading.Event()
        ready = threading.Event()
        loops: list[Loop] = []
        failures: list[BaseException] = []
        watch = Watch(self.watch)

        def work() -> None:
            try:
                spool = Spool(config.actions.directory)
                with Ledger(state / LEDGER_FILE, now=now, floor_seq=spool.highest_seq()) as ledger:
                    loader = FrameLoader.of(config)
                    answerer = Answerer(
                        Pipeline(self.scorer, still_actor, config.rules(5, 0.2), NO_MODELS_DIGEST),
                        ledger,
                        spool,
                        FrameFolders(state / "archive" if config.watch.layout == "single" else None, self.quarantine),
                        lifetime=timedelta(seconds=60),
                        now=now,
                        reload=lambda row: reload_frame(loader, self.watch, row),
                    )
                    self.answerers.append(answerer)
                    waits = config.watch
                    timeouts = InboxTimeouts(waits.rescan_s, waits.quiet_s, waits.settle_s, waits.unreadable_s)
                    inbox = Inbox(self.watch, loader, timeouts, ledger.knows)
                    loops.append(
                        Loop(inbox, watch, answerer, state, stop, manager=manager, probe_targets=probe_targets)
                    )
                    ready.set()
                    loops[0].run()
            except BaseException as error:  # the test must see it, not the thread
                failures.append(error)
                ready.set()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            assert ready.wait(DEADLINE_S)
            if failures:
                raise failures[0]
            yield loops[0]
        finally:
            stop.set()
            watch.wake()
            thread.join(DEADLINE_S)
            assert not thread.is_alive()
        if failures:
            raise failures[0]


def now() -> datetime:
    return datetime.now(UTC)


def make_daemon(directory: Path, layout: str = "series", settle_s: float = 0.4) -> DaemonUnderTest:
    for name in ("watch", "actions", "state"):
        (directory / name).mkdir()
    path = directory / "semd.toml"
    path.write_text(
        f"""[watch]
directory = "watch"
layout = "{layout}"
rescan_s = 0.05
quiet_s = 0.05
settle_s = {settle_s}
unreadable_s = {2 * settle_s}
max_image_mb = 2
[actions]
directory = "actions"
[state]
directory = "state"
"""
    )
    return DaemonUnderTest(directory, load_config(path))
