"""Names and contents that mean harm: nothing is written, changed or removed outside the configured directories."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path, PureWindowsPath

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from semd.daemon.answering import Answerer
from semd.daemon.daemon_process import reload_frame
from semd.daemon.frame_files import FrameFolders, harmless_name
from semd.decision.rules import DEFAULT_LIMITS, RunRules
from semd.domain.axes import AXES, Axis
from semd.errors import ActionTextError
from semd.inbox.frame import LoadedFrame
from semd.inbox.image import FrameSize
from semd.inbox.inbox import Inbox, InboxTimeouts
from semd.inbox.load import FrameLoader
from semd.inbox.watch import Hints
from semd.middle_client.action_folder import ActionFolder, Outcome
from semd.middle_client.audit import AuditTrail
from semd.middle_client.clock import Clock
from semd.middle_client.gate import RateLimit
from semd.middle_client.journal import Journal
from semd.middle_client.pending import PendingActions
from semd.outbox.ledger import Ledger
from semd.outbox.spool import Spool
from semd.pipeline import Pipeline
from semd.protocol.action import Action, Status, encode_action
from semd.protocol.instrument_profile import GENERIC
from semd.protocol.pairing import Dialect
from semd.testing import NO_MODELS_DIGEST, ConstantScorer, still_actor

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = "MAG=2000\r\nWD=9500\r\nBRIGHTNESS=40\r\nCONTRAST=50\r\n"
IMAGE = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (240, 320), dtype=np.uint8))[1].tobytes()
DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(10))}
HOSTILE = [
    "..", "...", ". ", "..\\..\\x", "%2e%2e%2f", "NUL", "con", "COM1.x", "a:b", "a\nb", "a\x1b[2J", "\u202egnp", "-rf",
    "$(touch x)", "`x`", "|x", "~root", "a" * 240, "주" * 80, "\udcff\udc80", "a.reason", ".hidden",
    "x" * 180 + "." * 50,
    "'; DROP TABLE frames; --", "action-00000001-" + "0" * 32, "ABORT", "00000001~x", "{value}",
]  # fmt: skip
STEMS = st.sampled_from(HOSTILE) | st.text(
    st.characters(exclude_characters="/\0", exclude_categories=()), min_size=1, max_size=60
)
LINES = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=("Cs",)), max_size=40)


@contextmanager
def lab() -> Iterator[Path]:
    """A folder with the configured directories and, beside them, what must stay as it is."""
    root = Path(tempfile.mkdtemp(prefix="semd-names-"))
    try:
        for name in ("watch", "outside"):
            (root / name).mkdir()
        (root / "outside" / "notes.txt").write_text(GOOD)
        (root / "outside" / "notes.png").write_bytes(IMAGE)
        yield root
    finally:
        shutil.rmtree(root)


def outside(root: Path) -> dict[str, bytes | None]:
    """Everything that is in none of the configured directories."""
    ours = {root / name for name in ("watch", "actions", "state")}
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
        if not ours & {path, *path.parents}
    }


def work(root: Path, *, single: bool) -> tuple[int, int]:
    """Let inbox and outbox deal with what lies there until it is settled; returns (answered, quarantined)."""
    state = root / "state"
    state.mkdir(exist_ok=True)
    spool = Spool(root / "actions")
    with Ledger(state / "ledger.sqlite", now=lambda: MOMENT) as ledger:
        loader = FrameLoader(Dialect.COXEM, FrameSize(320, 240), AXES, DEFAULT_LIMITS)
        answerer = Answerer(
            Pipeline(ConstantScorer(), still_actor, RunRules(), NO_MODELS_DIGEST),
            ledger,
            spool,
            FrameFolders(state / "archive" if single else None, state / "quarantine"),
            lifetime=timedelta(seconds=60),
            now=lambda: MOMENT,
            reload=lambda row: reload_frame(loader, root / "watch", row),
        )
        inbox = Inbox(root / "watch", loader, InboxTimeouts(), ledger.knows)
        for now_s in (0.0, 1.0, 3.0, 11.0, 12.0):
            for item in inbox.poll(Hints(set(), set()), now_s, force_rescan=True):
                if isinstance(item.content, LoadedFrame):
                    answerer.answer(item.content, item.fingerprint)
                else:
                    answerer.reject(item.content, item.fingerprint)
                inbox.settle(item)
        assert ledger.unfinished() == []
        return answerer.answered, answerer.quarantined


def assert_name_is_harmless(name: str) -> None:
    """No system refuses it, hides it, or takes it for something else."""
    assert len(name.encode()) <= 255
    assert name.isprintable()
    assert not set(name) & set('<>:"/|?*\\\0')
    assert PureWindowsPath("C:/state", name).name == name
    assert name.partition(".")[0].rstrip().upper() not in DEVICES
    assert name == name.rstrip(" .")


def assert_all_is_inside(root: Path) -> None:
    for folder in ("archive", "quarantine"):
        for path in (root / "state" / folder).rglob("*"):
            assert path.parent == root / "state" / folder
            assert_name_is_harmless(path.name)
    for path in (root / "actions").iterdir():
        assert path.name.startswith("action-")
        assert_name_is_harmless(path.name)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    stem=STEMS, single=st.booleans(), bad=st.sampled_from(["", "text", "image", "alone"]), sample=LINES, action=LINES
)
@example(stem="..", single=True, bad="text", sample="../../x", action="../../../etc/x")
@example(stem="NUL", single=True, bad="", sample="NUL", action="\\\\?\\C:\\x")
@pytest.mark.skipif(sys.platform == "win32", reason="most of these names cannot be made there")
def test_no_stem_and_no_content_leads_out(stem: str, single: bool, bad: str, sample: str, action: str) -> None:
    text = (GOOD if bad != "text" else GOOD.replace("9500", "x")) + f"SAMPLE={sample}\r\nACTION={action}\r\n"
    image = IMAGE[:-30] if bad == "image" else IMAGE
    with lab() as root:
        before = outside(root)
        try:
            (root / "watch" / f"{stem}.txt").write_text(text, "utf-8")
            if bad != "alone":
                (root / "watch" / f"{stem}.png").write_bytes(image)
        except (OSError, UnicodeEncodeError):
            assume(False)  # too long, or no name for this file system
        answered, quarantined = work(root, single=single)
        assert outside(root) == before
        assert_all_is_inside(root)
        hidden = stem.startswith((".", "~")) or f"{stem}.txt".lower().endswith(".reason.txt")
        assert hidden or answered + quarantined >= 1


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    image=st.sampled_from(["", "notes.png", "notes.txt", "", "nowhere", "/", "loop"]),
    text=st.sampled_from(["notes.txt", "notes.png", "", "nowhere", "/", "loop"]),
    single=st.booleans(),
)
@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_through_a_link_nothing_is_written_or_removed(image: str, text: str, single: bool) -> None:
    """The target of a link may be read as a frame; only the link itself is ever moved."""
    with lab() as root:
        before = outside(root)
        for target, name, data in ((image, "f.png", IMAGE), (text, "f.txt", GOOD.encode())):
            path = root / "watch" / name
            if target == "":
                path.write_bytes(data)
            elif target == "loop":
                path.symlink_to(path)
            else:
                path.symlink_to(root / "outside" / target)
        work(root, single=single)
        assert outside(root) == before
        assert_all_is_inside(root)


@settings(deadline=None)
@given(name=st.text(min_size=1, max_size=400))
def test_any_text_at_all_becomes_a_harmless_name(name: str) -> None:
    """Also with characters that no file system here lets into a name."""
    assume("/" not in name)  # the daemon passes the last part of a path
    made = f"00000001~{harmless_name(f'{name}.png')}.reason.txt"
    assert_name_is_harmless(made)


@settings(max_examples=60, deadline=None)
@given(frame=STEMS, outcome=st.sampled_from(Outcome))
def test_no_action_leads_the_middle_client_out(frame: str, outcome: Outcome) -> None:
    action = Action(
        id="0" * 32, seq=1, frame=frame, status=Status.ADJUST, magnification=2000.0, targets={Axis.WD: 9.0},
        deltas={Axis.WD: 0.1}, score=5.0, reward=None, step=0, issued=MOMENT, expires=MOMENT + timedelta(seconds=60),
    )  # fmt: skip
    try:
        data = encode_action(action)
    except ActionTextError:
        assume(False)
    with lab() as root:
        before = outside(root)
        actions = root / "actions"
        actions.mkdir()
        (actions / action.file_name).write_bytes(data)
        clock = Clock(lambda: MOMENT, lambda: 0.0)
        trail = AuditTrail(root / "state" / "audit", clock)
        (root / "state").mkdir()
        journal = Journal(root / "state" / "journal.json")
        rate = RateLimit(600, clock)
        pending = PendingActions(ActionFolder(actions), journal, clock, trail=trail, profile=GENERIC, rate=rate)
        in_flight = pending.take()
        assert in_flight is not None
        assert in_flight.action.frame == frame
        pending.note_sending(data)
        pending.settle(outcome)
        assert outside(root) == before
        assert [path.relative_to(actions).as_posix() for path in actions.rglob("*.txt")] == [
            f"{outcome}/{action.file_name}"
        ]
        assert sorted(os.listdir(root / "state")) == ["audit", "journal.json"]  # noqa: PTH208
