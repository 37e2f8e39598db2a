"""Steps of a crash run: each does something to the processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from semd.campaigns.crashes.crash_harness import CrashHarness
from semd.service.failpoints import Part, Trap

LINK = "link-cut"
_FRAMES_AFTER = 2
_SAYS_SO = "the disk is full"


@dataclass(slots=True)
class CrashStep:
    """One trap sprung on one harness, and what became of the frames saved meanwhile.

    Attributes:
        layout, dialect, mode, point, hit: which.
        part: whose failpoint; the Middle Client's for a cut link.
        trouble: why it could not be judged; empty when it was.
        recovery_s: from the process's death, or the cut, until things went on; None when the next trap sprang before.
        frames: saved from the arming on.
        lost, doubled, applied_twice, invented, differing: of these; see `FrameFate`.
        sent_again: of these, received more than once by the SEM.
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
        """True where nothing went wrong."""
        return not (self.trouble or self.lost or self.doubled or self.applied_twice or self.invented or self.differing)


class CrashRun:
    """Leads a harness through its steps.

    Args:
        harness: which.
        steps: each step is added when it begins.
        show: told of each when it is done.

    Raises:
        StorageError: something did not come within the harness's patience, or a process ended unasked (any method).
    """

    def __init__(self, harness: CrashHarness, steps: list[CrashStep], show: Callable[[CrashStep], None]) -> None:
        self._bench = harness
        self._steps = steps
        self._show = show

    def start(self) -> None:
        """Start both processes and wait for the first frames."""
        step = self._begin(Part.DAEMON, "none", "start", 0)
        begun_s = time.monotonic()
        for part in Part:
            self._bench.start(part)
        self._bench.until(lambda: self._bench.ended() > 0, "the first frame to end")
        self._end(step, begun_s)

    def kill(self, part: Part, traps: Sequence[Trap]) -> None:
        """Let every trap end a life of the process; the life after the last has none.

        The next trap is armed in the very life that recovers, so that it may strike during recovery; then the life
        after that is left in peace: a frame at which three processes ended is answered with HOLD.
        """
        harness = self._bench
        armed: Trap | None = None
        for number, trap in enumerate(traps):
            step = self._begin(part, trap.mode, trap.point, trap.hit)
            struck_early = armed is not None and harness.is_dead(part)
            if armed is not trap:
                harness.stop(part)
                harness.start(part, trap)
            harness.until_killed(part)
            died_s = time.monotonic()
            goes_on = self._on_going_on(part)
            armed = traps[number + 1] if number + 1 < len(traps) and not struck_early else None
            harness.start(part, armed)
            others = tuple(other for other in Part if other is not part)
            harness.until(lambda: harness.is_dead(part) or goes_on(), f"things to go on after {trap}", alive=others)  # noqa: B023
            self._end(step, None if harness.is_dead(part) else died_s)

    def fill(self, part: Part, trap: Trap) -> None:
        """Fill the disk for a while: the process must say so, live on, and go on when there is room."""
        harness = self._bench
        step = self._begin(part, trap.mode, trap.point, trap.hit)
        harness.stop(part)
        springs, said = harness.springs(part), harness.logged(part).count(_SAYS_SO)
        harness.start(part, trap)
        harness.until(lambda: harness.springs(part) >= springs + trap.times, f"{trap} to be reached")
        ended, roomy_s = harness.ended(), time.monotonic()
        harness.until(lambda: harness.ended() >= ended + _FRAMES_AFTER, f"frames to go on after {trap}")
        if harness.logged(part).count(_SAYS_SO) <= said:
            step.trouble = f"the {part} never logged that {_SAYS_SO}"
        self._end(step, roomy_s)

    def cut_link(self) -> None:
        """Cut the connection when the SEM has carried out a command and has not said so."""
        harness, sem = self._bench, self._bench.sem
        step = self._begin(Part.MIDDLE_CLIENT, "cut", LINK, 1)
        connections, ended = len(sem.connected_at_s), harness.ended()
        sem.cut_next = True
        harness.until(lambda: sem.dropped_at_s is not None, "the link to be cut")
        harness.until(lambda: len(sem.connected_at_s) > connections, "the link to come back")
        self._end(step, sem.dropped_at_s)
        harness.until(lambda: harness.ended() >= ended + _FRAMES_AFTER, "frames to go on after the link was cut")

    def finish(self) -> None:
        """Let every frame end and every action be dealt with, then stop both processes."""
        harness, sem = self._bench, self._bench.sem
        sem.finish()
        # An answer for each but those with a bad text, a record for each but the good ones.
        due = sum(2 if frame.kind == "damaged image" else 1 for frame in sem.frames)
        harness.until(lambda: harness.ended() >= due, "every frame to end")
        # Without ids the last command is believed only when a further frame shows it: there is none.
        allowed = 1 if sem.dialect == "aisem" else 0
        harness.until(lambda: harness.pending() <= allowed, "every action to be dealt with")
        for part in Part:
            harness.stop(part)

    def _begin(self, part: Part, mode: str, point: str, hit: int) -> CrashStep:
        sem = self._bench.sem
        sem.during = len(self._steps)
        self._steps.append(CrashStep(str(sem.layout), sem.dialect, mode, str(point), hit, str(part)))
        return self._steps[-1]

    def _end(self, step: CrashStep, since_s: float | None) -> None:
        step.recovery_s = round(time.monotonic() - since_s, 3) if since_s is not None else None
        self._show(step)

    def _on_going_on(self, part: Part) -> Callable[[], bool]:
        """Whether, from now on, the daemon has ended a frame, or the Middle Client has spoken to the SEM."""
        harness, sem = self._bench, self._bench.sem
        ended, connections = harness.ended(), len(sem.connected_at_s)
        if part is Part.DAEMON:
            return lambda: harness.ended() > ended
        return lambda: len(sem.connected_at_s) > connections
