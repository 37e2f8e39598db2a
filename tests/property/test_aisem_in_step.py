"""`aisem` at any speed of scoring, scanning and link, and whatever is lost: commands and frames stay in step.

A microscope, a daemon and a link of their own, in simulated time; only the Middle Client is the product's.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.outbox import START, drop_file, make_action, make_gate, make_pending, places
from hypothesis import example, given, settings
from hypothesis import strategies as st

from semd.domain.axes import Axis
from semd.middle_client.aisem_forwarder import AisemForwarder
from semd.middle_client.clock import Clock
from semd.middle_client.framing import Templates
from semd.protocol.action import Status
from semd.testing import FakeClock, MemoryLink

TICK_S = 0.25
LIFETIME_S = 60.0
DONE_AFTER_FRAMES = 8
END_S = 420.0
TOLERANCE_MM = 0.002


@dataclass
class Frame:
    wd_mm: float
    scan_began_s: float
    complete_s: float


@dataclass
class World:
    """One microscope, one daemon and one operator.

    Attributes:
        scan_s, score_s, reply_s: how long a scan, an answer and a reply take.
        losses: outcome of each command in turn: carried out and answered, `reply` lost, or `command` lost.
        kills_s: when the client is killed and started again.
        scans_s: when the operator presses the scan button.
    """

    directory: Path
    scan_s: float
    score_s: float
    reply_s: float
    losses: list[str]
    kills_s: list[float]
    scans_s: list[float]
    clock: FakeClock = field(default_factory=FakeClock)
    link: MemoryLink = field(default_factory=MemoryLink)
    wd_mm: float = 10.0
    last_target_mm: float | None = None
    holds: int = 0
    frames: list[Frame] = field(default_factory=list)
    queue: list[Frame] = field(default_factory=list)
    scored_at_s: float | None = None
    answers: dict[int, tuple[Frame, float, Status]] = field(default_factory=dict)
    carried_out_s: list[float] = field(default_factory=list)
    replies: list[tuple[float, int]] = field(default_factory=list)
    free_s: float = 0.0
    seen: int = 0
    problems: list[str] = field(default_factory=list)

    def start_client(self) -> None:
        clock = Clock(self.clock.now, self.clock.monotonic_s)
        self.client = AisemForwarder(
            make_pending(self.directory, clock),
            self.link,
            clock,
            gate=make_gate(self.directory, clock),
            templates=Templates(),
            tolerances={Axis.WD: TOLERANCE_MM},
            answer_timeout_s=10.0,
            confirm_timeout_s=60.0,
        )

    def scan(self) -> None:
        """Scans follow one another; each shows the working distance at its beginning."""
        now_s = self.clock.seconds
        begin_s = max(now_s, self.free_s)
        self.free_s = begin_s + self.scan_s
        self.frames.append(Frame(self.wd_mm, begin_s, self.free_s))

    def tick(self) -> None:
        self.clock.seconds += TICK_S
        now_s = self.clock.seconds
        while self.scans_s and self.scans_s[0] <= now_s:
            self.scans_s.pop(0)
            self.scan()
        for reply in [each for each in self.replies if each[0] <= now_s]:
            self.replies.remove(reply)
            if reply[1] == self.link.connection:
                self.link.inbox.append(b"done")
        for frame in [each for each in self.frames if each.complete_s <= now_s]:
            self.frames.remove(frame)
            self.queue.append(frame)
        self.answer_frames(now_s)
        if self.kills_s and self.kills_s[0] <= now_s:
            self.kills_s.pop(0)
            self.link.come_back()
            self.start_client()
        if not self.link.is_up:
            self.link.come_back()
        before = len(self.link.sent)
        self.client.step()
        for command in self.link.sent[before:]:
            self.obey(command)

    def answer_frames(self, now_s: float) -> None:
        """As the daemon does: HOLD where the frame does not show the last target, three in a row at most."""
        if self.queue and self.scored_at_s is None:
            self.scored_at_s = now_s + self.score_s
        if self.scored_at_s is None or self.scored_at_s > now_s:
            return
        self.scored_at_s = None
        frame, seq = self.queue.pop(0), len(self.answers) + 1
        status, delta_mm = Status.ADJUST, round(random.Random(seq).uniform(-1.0, 1.0), 4)
        differs = self.last_target_mm is not None and abs(frame.wd_mm - self.last_target_mm) > TOLERANCE_MM
        if differs and self.holds < 3:
            status, delta_mm = Status.HOLD, 0.0
        elif differs or seq >= DONE_AFTER_FRAMES:
            status, delta_mm = (Status.GIVE_UP if differs else Status.DONE), 0.0
        self.holds = self.holds + 1 if status is Status.HOLD else 0
        target_mm = round(frame.wd_mm + delta_mm, 4)
        self.last_target_mm = None if status is Status.HOLD else target_mm
        action = make_action(
            seq, status=status, wd_mm=target_mm, delta_mm=delta_mm, lifetime_s=LIFETIME_S, issued=self.clock.now()
        )
        self.answers[seq] = (frame, target_mm, status)
        drop_file(self.directory, action)

    def obey(self, command: bytes) -> None:
        target_mm = float(command.split(b",")[1])
        loss = self.losses.pop(0) if self.losses else ""
        # Targets are drawn apart, so that a command names its action; HOLDs of one setting do not.
        frame, status = next(
            (frame, status)
            for frame, asked_mm, status in reversed(list(self.answers.values()))
            if abs(asked_mm - target_mm) < 1e-6
        )
        is_stale = self.carried_out_s and frame.scan_began_s < self.carried_out_s[-1]
        if is_stale and abs(frame.wd_mm - self.wd_mm) > TOLERANCE_MM:
            self.problems.append(f"{command!r} answers a frame of {frame.wd_mm}, and the lens is at {self.wd_mm}")
        if status is Status.HOLD and abs(target_mm - self.wd_mm) > TOLERANCE_MM:
            self.problems.append(f"HOLD moves the lens from {self.wd_mm} to {target_mm}")
        if loss != "command":
            self.wd_mm = target_mm
            self.carried_out_s.append(self.clock.seconds)
            self.scan()
        if loss:
            self.link.drop("lost")
        else:
            self.replies.append((self.clock.seconds + self.reply_s, self.link.connection))


@settings(max_examples=60, deadline=None)
@given(
    scan_s=st.floats(0.1, 4.0),
    score_s=st.floats(0.05, 4.0),
    reply_s=st.floats(0.0, 3.0),
    losses=st.lists(st.sampled_from(["", "", "reply", "command"]), max_size=6),
    kills_s=st.lists(st.floats(1.0, 60.0), max_size=2).map(sorted),
    scans_s=st.lists(st.floats(0.5, 60.0), max_size=3).map(sorted),
)
# Three scans of an operator lie before the first command's own: three answers to older frames in a row.
@example(scan_s=1.0, score_s=1.0, reply_s=0.0, losses=[], kills_s=[], scans_s=[1.0, 1.0, 1.0])
# A scan of the operator confirms a HOLD early, which says nothing of the time that a frame takes.
@example(scan_s=1.0, score_s=2.0, reply_s=0.0, losses=["command"], kills_s=[], scans_s=[37.25, 52.75])
def test_commands_and_frames_stay_in_step(
    scan_s: float, score_s: float, reply_s: float, losses: list[str], kills_s: list[float], scans_s: list[float]
) -> None:
    with TemporaryDirectory() as folder:
        world = World(Path(folder) / "actions", scan_s, score_s, reply_s, losses, kills_s, [0.0, *scans_s])
        world.directory.mkdir()
        world.start_client()
        while world.clock.seconds < END_S:
            world.tick()
        assert world.problems == []
        filed = places(world.directory)
        # Each action lies in one place, none is left pending, and none was sent twice.
        assert "" not in filed
        assert sorted(seq for seqs in filed.values() for seq in seqs) == sorted(world.answers)
        asked = Counter(f"WDMAG,{target:.4f},2000".encode() for _, target, _ in world.answers.values())
        assert not Counter(world.link.sent) - asked
        # One command asks for one frame, so there are no more answers than commands and presses of the button.
        assert len(world.answers) <= len(world.link.sent) + 1 + len(scans_s)
        assert world.clock.now() > START
