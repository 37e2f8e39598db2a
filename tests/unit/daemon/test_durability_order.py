"""Order of durability: every sync, rename and commit in its order, with the failpoints in between."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from harness.outbox import drop_file, make_action, make_gate, make_pending

from semd.campaigns.constant_daemon import constant_pipeline
from semd.config import Config, load_config
from semd.daemon.daemon_process import open_boxes
from semd.inbox.frame import LoadedFrame
from semd.inbox.watch import Hints
from semd.middle_client.backoff import Backoff
from semd.middle_client.text_forwarder import TextForwarder
from semd.service import failpoints
from semd.service.failpoints import Failpoint
from semd.testing import FakeClock, MemoryLink

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="paths of open files are asked of /proc")

GOOD = b"MAG=2000\r\nWD=9500\r\nBRIGHTNESS=40\r\nCONTRAST=50\r\n"


class Recorder:
    """Stands where a trap would, and hears every failpoint."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: list[str] = []
        self.synchronous = "FULL"

    def spring(self, point: Failpoint, prepare: Callable[[], object] | None) -> None:
        self.events.append(f"- {point}")

    def sql(self, statement: str) -> None:
        if statement.startswith("PRAGMA synchronous = "):
            self.synchronous = statement.rpartition(" ")[2]
        elif statement == "COMMIT":
            self.events.append("commit, synced" if self.synchronous == "FULL" else "commit")

    def name(self, path: str | Path) -> str:
        return str(Path(path).relative_to(self.root)).replace("action-00000001-", "").replace("ResponseImage", "R")


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path)
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        real_fsync(handle)
        recorder.events.append("sync " + recorder.name(Path(f"/proc/self/fd/{handle}").readlink()))

    def replace(source: Path, target: Path) -> Path:
        recorder.events.append(f"rename {recorder.name(source)} -> {recorder.name(target)}")
        return real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(failpoints, "_ARMED", [recorder])
    return recorder


def make_config(root: Path, layout: str) -> Config:
    for name in ("watch", "actions", "state"):
        (root / name).mkdir()
    for name in ("archive", "quarantine"):
        (root / "state" / name).mkdir()
    path = root / "semd.toml"
    path.write_text(
        f'[watch]\ndirectory = "watch"\nlayout = "{layout}"\n[actions]\ndirectory = "actions"\n'
        '[state]\ndirectory = "state"\n'
    )
    return load_config(path)


def answer_one(config: Config, recorder: Recorder, text: bytes, image: bytes) -> list[str]:
    """One frame through the daemon's boxes; its events, with the id as `I`."""
    (config.watch.directory / "ResponseImage.png").write_bytes(image)
    (config.watch.directory / "ResponseImage.txt").write_bytes(text)
    with open_boxes(config, constant_pipeline(config)) as boxes:
        boxes.ledger._connection.set_trace_callback(recorder.sql)
        recorder.events.clear()
        items = [item for now_s in (0.0, 5.0, 20.0) for item in boxes.inbox.poll(Hints(), now_s, force_rescan=True)]
        content = items[0].content
        if isinstance(content, LoadedFrame):
            boxes.answerer.answer(content, items[0].fingerprint)
        else:
            boxes.answerer.reject(content, items[0].fingerprint)
        boxes.ledger._connection.set_trace_callback(None)
    return [event for event in recorder.events if not event.startswith("- frame-")]


def picture() -> bytes:
    noise = np.random.default_rng(0).integers(20, 220, (480, 640), dtype=np.uint8)
    return cv2.imencode(".png", noise)[1].tobytes()


ACTION = [
    "- judged",
    "- ledger-commit",
    "commit, synced",
    "- decided",
    "- action-writing",
    "sync actions/.I.txt.tmp",
    "- action-written",
    "rename actions/.I.txt.tmp -> actions/I.txt",
    "- action-renamed",
    "sync actions",
    "- action-durable",
    "- ledger-commit",
    "commit",
    "- published",
]


def moved(folder: str, prefix: str) -> list[str]:
    steps = []
    for suffix in ("png", "txt"):
        steps += ["- file-moving", f"rename watch/R.{suffix} -> state/{folder}/{prefix}~R.{suffix}", "- file-moved"]
    return [*steps, f"sync state/{folder}", "- files-aside"]


def reasoned(prefix: str) -> list[str]:
    reason = f"{prefix}~R.png.reason.txt"
    return [
        "- reason-writing",
        f"sync state/quarantine/.{reason}.tmp",
        f"rename state/quarantine/.{reason}.tmp -> state/quarantine/{reason}",
        "sync state/quarantine",
        "- reason-written",
    ]


def test_single_the_claim_survives_before_a_file_moves_and_the_decision_before_the_action(
    tmp_path: Path, recorder: Recorder
) -> None:
    events = answer_one(make_config(tmp_path, "single"), recorder, GOOD, picture())
    (action,) = (tmp_path / "actions").glob("action-*")
    assert named(events, action) == [
        "- ledger-commit", "commit, synced", "- claimed", *moved("archive", "00000001"), *ACTION,
    ]  # fmt: skip


def test_series_the_claim_is_synced_with_the_decision(tmp_path: Path, recorder: Recorder) -> None:
    events = answer_one(make_config(tmp_path, "series"), recorder, GOOD, picture())
    (action,) = (tmp_path / "actions").glob("action-*")
    assert named(events, action) == ["- ledger-commit", "commit", "- claimed", "- files-aside", *ACTION]


def test_a_damaged_image_is_explained_before_it_is_answered(tmp_path: Path, recorder: Recorder) -> None:
    events = answer_one(make_config(tmp_path, "series"), recorder, GOOD, b"no image at all")
    (action,) = (tmp_path / "actions").glob("action-*")
    prefix = action.stem.rpartition("-")[2][:8]
    assert named(events, action) == [
        "- ledger-commit", "commit, synced", "- claimed", *moved("quarantine", prefix), *reasoned(prefix), *ACTION,
    ]  # fmt: skip


def test_a_rejection_survives_before_a_file_moves(tmp_path: Path, recorder: Recorder) -> None:
    events = answer_one(make_config(tmp_path, "single"), recorder, GOOD.replace(b"9500", b"nan"), picture())
    (reason,) = (tmp_path / "state" / "quarantine").glob("*.reason.txt")
    prefix = reason.name.partition("~")[0]
    assert events == [
        "- ledger-commit", "commit, synced", "- rejected", *moved("quarantine", prefix), *reasoned(prefix),
        "- ledger-commit", "commit", "- quarantined",
    ]  # fmt: skip


def test_a_folder_that_is_made_is_durable_before_a_file_is_in_it(tmp_path: Path, recorder: Recorder) -> None:
    config = make_config(tmp_path, "single")
    (tmp_path / "state" / "archive").rmdir()
    events = answer_one(config, recorder, GOOD, picture())
    assert events.index("sync state") < events.index("rename watch/R.png -> state/archive/00000001~R.png")


def named(events: list[str], action: Path) -> list[str]:
    identity = action.stem.rpartition("-")[2]
    return [event.replace(identity, "I") for event in events]


class TellingLink(MemoryLink):
    """Says in between what goes out."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events

    def send(self, data: bytes) -> None:
        self.events.append("send")
        super().send(data)


JOURNAL = [
    "- journal-writing",
    "sync .middle-client.json.tmp",
    "- journal-written",
    "rename .middle-client.json.tmp -> middle-client.json",
    "- journal-renamed",
    "sync .",
]


def test_the_middle_client_knows_before_it_sends_and_files_before_it_forgets(
    tmp_path: Path, recorder: Recorder
) -> None:
    clock, link = FakeClock(), TellingLink(recorder.events)
    action = make_action(1)
    (tmp_path / "audit").mkdir()
    (tmp_path / "actions" / "sent").mkdir(parents=True)
    pending = make_pending(tmp_path / "actions", clock)
    forwarder = TextForwarder(
        pending, link, clock, gate=make_gate(tmp_path / "actions", clock), answer_timeout_s=30.0,
        backoff=Backoff(0.1, 1.0, random.Random(0)),
    )  # fmt: skip
    forwarder.step()
    drop_file(tmp_path / "actions", action)
    recorder.events.clear()
    forwarder.step()
    link.inbox.append(f"ACK {action.id}\n".encode())
    forwarder.step()
    name = f"{action.id}.txt"
    assert recorder.events == [
        "- action-seen",
        *JOURNAL,
        "- trail-writing",
        "sync audit/commands-2026-01.jsonl",
        "sync audit",
        "- trail-written",
        "send",
        "- sent",
        "- answered",
        "- trail-writing",
        "sync audit/commands-2026-01.jsonl",
        "- action-filing",
        f"rename actions/{name} -> actions/sent/{name}",
        "sync actions/sent",
        "sync actions",
        "- action-filed",
        *JOURNAL,
        "- flight-closed",
    ]
