"""Stand-ins for tests against semd: a constant scorer, an actor that does not move, a clock and a link in memory.

They take the places of the scoring machine, the actor, the time and the TCP connection, cost nothing and give the same
answer each time:

    pipeline = Pipeline(ConstantScorer(5.0), still_actor, rules, NO_MODELS_DIGEST)

Nothing that runs at the instrument imports this module.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from semd.domain.frame_score import FrameScore
from semd.errors import LinkError
from semd.middle_client.clock import Clock

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_MODELS_DIGEST = "0" * 64
"""SHA-256 in the place of the models' digest; no file of weights has it."""


@dataclass(frozen=True)
class ConstantScorer:
    """Scoring machine that gives every frame the same score, with sigma 0 and without quality flags.

    Attributes:
        score: 0..10.
    """

    score: float = 5.0

    def judge(self, image: NDArray[np.uint8], magnification: float) -> FrameScore:  # noqa: ARG002
        """Return the score; neither the frame, uint8 (H, W), nor its magnification is looked at."""
        return FrameScore(self.score)


def still_actor(state: NDArray[np.float32]) -> NDArray[np.float32]:  # noqa: ARG001
    """Return the action that moves no axis: zeros, float32 (3,)."""
    return np.zeros(3, np.float32)


@dataclass
class FakeClock:
    """Wall clock and monotonic clock that stand still until they are moved.

    Attributes:
        seconds: monotonic time; begins anew when the computer starts.
        wall_offset_s: what the wall clock was set forward (or back, negative), beyond the monotonic time.
        start: UTC time of the wall clock where both are 0.
    """

    seconds: float = 0.0
    wall_offset_s: float = 0.0
    start: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def now(self) -> datetime:
        """Return the time of the wall clock, UTC."""
        return self.start + timedelta(seconds=self.seconds + self.wall_offset_s)

    def monotonic_s(self) -> float:
        """Return the monotonic time in seconds."""
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self.seconds += seconds

    def restart_computer(self, uptime_s: float) -> None:
        """Begin the monotonic time anew, at `uptime_s`; the wall clock shows the same time as before."""
        self.wall_offset_s += self.seconds - uptime_s
        self.seconds = uptime_s

    def as_clock(self) -> Clock:
        """Return the clock as the Middle Client takes it; it moves with this one."""
        return Clock(self.now, self.monotonic_s)


@dataclass
class MemoryLink:
    """Link of the Middle Client whose other end is two lists.

    Attributes:
        is_up: True where there is a connection.
        connection: number of the present or last connection, counted from 1.
        sent: what the Middle Client has sent, a message each.
        inbox: what the SEM has sent and nobody has received yet; `receive` takes one item at a time.
        drops: reasons for which the Middle Client gave the connection up.
        breaks_on_send: True where the next `send` finds the connection broken.
    """

    is_up: bool = True
    connection: int = 1
    sent: list[bytes] = field(default_factory=list)
    inbox: list[bytes] = field(default_factory=list)
    drops: list[str] = field(default_factory=list)
    breaks_on_send: bool = False

    def send(self, data: bytes) -> None:
        """Append `data` to `sent`.

        Raises:
            LinkError: `breaks_on_send` is set; nothing was sent.
        """
        if self.breaks_on_send:
            raise LinkError("sending failed")
        self.sent.append(data)

    def receive(self) -> bytes:
        """Return the oldest item of `inbox`; empty when there is none or the link is down."""
        return self.inbox.pop(0) if self.is_up and self.inbox else b""

    def drop(self, reason: str) -> None:
        """Note the reason and take the link down."""
        self.drops.append(reason)
        self.is_up = False

    def come_back(self) -> None:
        """Connect again; `connection` counts it."""
        self.is_up = True
        self.connection += 1
