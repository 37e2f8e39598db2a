"""Steps of a crash run: kill a process, fill the disk, cut the link."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from semd.campaigns.crashes.crash_harness import CrashHarness
from semd.service.failpoints import Part, Trap

LINK = "link-cut"
_FRAMES_AFTER = 2
_DISK_FULL_MESSAGE = "the disk is full"


@dataclass(slots=True)
class CrashStep:
    """One fault injected into a harness, and the fates of the frames saved meanwhile.

    Attributes:
        layout, dialect, mode, point, hit: harness and trap.
        part: process of the failpoint; the Middle Client for a cut link.
        trouble: reason why the step could not be completed; empty if it was.
        recovery_s: time from the death of the process, or the cut, to the recovery; None if the next trap fired first.
        frames: number of frames saved since the trap was armed.
        lost, doubled, applied_twice, invented, differing: counts of these frames; see `FrameFate`.
        sent_again: number of these frames whose action the SEM received more than once.
    """

    layout: str
    dialect: str
    mode: str
    point: str
    hit: int
    part: str
    trouble: str = ""
    recovery_s: float | None = None
    frames: int = 0
    lost: int = 0
    doubled: int = 0
    applied_twice: int = 0
    invented: int = 0
    differing: int = 0
    sent_again: int = 0

    @property
    def is_fine(self) -> bool:
        """True if the step was completed and no frame had a fault."""
        return not (self.trouble or self.lost or self.doubled or self.applied_twice or self.invented or self.differing)


class CrashRun:
    """Leads a harness through its steps.

    Args:
        harness: the harness.
        steps: list to which each step is appended when it begins.
        show: called with each step when it ends.

    Raises:
        StorageError: a wait timed out, or a process ended unexpectedly (any method).
    """

    def __init__(self, harness: CrashHarness, steps: list[CrashStep], show: Callable[[CrashStep], None]) -> None:
        self._harness = harness
        self._steps = steps
        self._show = show

    def start(self) -> None:
        """Start both processes and wait for the first frames."""
        step = self._begin(Part.DAEMON, "none", "start", 0)
        begun_s = time.monotonic()
        for part in Part:
            self._harness.start(part)
        self._harness.until(lambda: self._harness.ended() > 0, "the first frame to end")
        self._end(step, begun_s)

    def kill(self, part: Part, traps: Sequence[Trap]) -> None:
        """Kill the process once at every trap; the last restart has no trap.

        The next trap is armed at the restart that recovers, so that it may fire during recovery. The restart after
        that has no trap, since a frame at which three processes ended is answered with HOLD.
        """
        harness = self._harness
        armed: Trap | None = None
        for number, trap in enumerate(traps):
            step = self._begin(part, trap.mode, trap.point, trap.hit)
            struck_early = armed is not None and harness.is_dead(part)
            if armed is not trap:
                harness.stop(part)
                harness.start(part, trap)
            harness.until_killed(part)
            died_s = time.monotonic()
            has_recovered = self._recovered(part)
            armed = traps[number + 1] if number + 1 < len(traps) and not struck_early else None
            harness.start(part, armed)
            others = tuple(other for other in Part if other is not part)
            harness.until(lambda: harness.is_dead(part) or has_recovered(), f"recovery after {trap}", alive=others)  # noqa: B023
            self._end(step, None if harness.is_dead(part) else died_s)

    def fill(self, part: Part, trap: Trap) -> None:
        """Simulate a full disk for a while: the process must log it, keep running, and continue once there is room."""
        harness = self._harness
        step = self._begin(part, trap.mode, trap.point, trap.hit)
        harness.stop(part)
        springs, said = harness.springs(part), harness.logged(part).count(_DISK_FULL_MESSAGE)
        harness.start(part, trap)
        harness.until(lambda: harness.springs(part) >= springs + trap.times, f"{trap} to be reached")
        ended, roomy_s = harness.ended(), time.monotonic()
        harness.until(lambda: harness.ended() >= ended + _FRAMES_AFTER, f"further frames after {trap}")
        if harness.logged(part).count(_DISK_FULL_MESSAGE) <= said:
            step.trouble = f"the {part} never logged that {_DISK_FULL_MESSAGE}"
        self._end(step, roomy_s)

    def cut_link(self) -> None:
        """Cut the connection after the SEM has carried out a command and before its answer."""
        harness, sem = self._harness, self._harness.sem
        step = self._begin(Part.MIDDLE_CLIENT, "cut", LINK, 1)
        connections, ended = len(sem.connected_at_s), harness.ended()
        sem.cut_next = True
        harness.until(lambda: sem.dropped_at_s is not None, "the link to be cut")
        harness.until(lambda: len(sem.connected_at_s) > connections, "the link to come back")
        self._end(step, sem.dropped_at_s)
        harness.until(lambda: harness.ended() >= ended + _FRAMES_AFTER, "further frames after the link was cut")

    def finish(self) -> None:
        """Wait until every frame has ended and no action is pending, then stop both processes."""
        harness, sem = self._harness, self._harness.sem
        sem.finish()
        # Every frame without a bad text gets an answer; every frame that is not good gets a record.
        due = sum(2 if frame.kind == "damaged image" else 1 for frame in sem.frames)
        harness.until(lambda: harness.ended() >= due, "every frame to end")
        # The aisem dialect has no ids: the last command would be confirmed by a further frame, and there is none.
        allowed = 1 if sem.dialect == "aisem" else 0
        harness.until(lambda: harness.pending() <= allowed, "every action to be dealt with")
        for part in Part:
            harness.stop(part)

    def _begin(self, part: Part, mode: str, point: str, hit: int) -> CrashStep:
        sem = self._harness.sem
        sem.during = len(self._steps)
        self._steps.append(CrashStep(str(sem.layout), sem.dialect, mode, str(point), hit, str(part)))
        return self._steps[-1]

    def _end(self, step: CrashStep, since_s: float | None) -> None:
        step.recovery_s = round(time.monotonic() - since_s, 3) if since_s is not None else None
        self._show(step)

    def _recovered(self, part: Part) -> Callable[[], bool]:
        """Make a condition: from now on the daemon ends a frame, or the Middle Client connects to the SEM."""
        harness, sem = self._harness, self._harness.sem
        ended, connections = harness.ended(), len(sem.connected_at_s)
        if part is Part.DAEMON:
            return lambda: harness.ended() > ended
        return lambda: len(sem.connected_at_s) > connections
