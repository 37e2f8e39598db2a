"""The gate before the socket: shut while the abort file is there, and while too many commands went out lately."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from math import ceil

import structlog

from semd.middle_client.abort import AbortFile
from semd.middle_client.clock import Clock

_MINUTE_S = 60.0


class RateLimit:
    """At most so many commands in any 60 s of the monotonic clock. The journal remembers them for the next process.

    Args:
        most_per_minute: at least 1.
        clock: its monotonic side.
    """

    def __init__(self, most_per_minute: int, clock: Clock) -> None:
        self._clock = clock
        self._times_s: deque[float] = deque(maxlen=most_per_minute)

    def wait_s(self) -> float:
        """Seconds until the next command may go; 0 when it may go now."""
        if len(self._times_s) < (self._times_s.maxlen or 0):
            return 0.0
        return max(0.0, self._times_s[0] + _MINUTE_S - self._clock.monotonic_s())

    def count(self) -> None:
        """A command goes now."""
        now_s = self._clock.monotonic_s()
        while self._times_s and now_s - self._times_s[0] >= _MINUTE_S:
            self._times_s.popleft()
        self._times_s.append(now_s)

    def memory(self, *, with_one_more: bool) -> tuple[tuple[int, int], ...]:
        """The commands of the last minute for the journal: (second at whose end they count as sent, how many).

        Args:
            with_one_more: another is about to go.
        """
        now_s = self._clock.monotonic_s()
        times_s = [time_s for time_s in self._times_s if now_s - time_s < _MINUTE_S]
        return tuple(sorted(Counter(map(ceil, [*times_s, now_s] if with_one_more else times_s)).items()))

    def remember(self, commands: Iterable[tuple[int, int]]) -> None:
        """Take up what another process has left in the journal.

        The monotonic clock goes on across processes and begins anew with the computer. A time ahead of it is from
        before that, so at least as old as the computer has been up. No clock on the wall is asked, which anybody may
        set.
        """
        now_s = self._clock.monotonic_s()
        for second, count in commands:
            time_s = 0.0 if second > now_s + 1.0 else min(float(second), now_s)
            self._times_s.extend([time_s] * min(count, self._times_s.maxlen or 0))
        self._times_s = deque(sorted(self._times_s), maxlen=self._times_s.maxlen)


class Gate:
    """Asked twice for each command: before anything is written for it, and right before the socket.

    Args:
        abort: the file that shuts it.
        rate: the limit that shuts it for a while.
    """

    def __init__(self, abort: AbortFile, rate: RateLimit) -> None:
        self._abort = abort
        self._rate = rate
        self._is_waiting = False
        self._log = structlog.get_logger()
        self.aborted: str | None = None

    def look(self) -> None:
        """Look for the abort file; `aborted` says why nothing may be sent, or is None."""
        found = self._abort.standing()
        if found is not None and self.aborted is None:
            self._log.error("abort.stands", reason=found, consequence="nothing is sent until `semd abort --clear`")
        elif found is None and self.aborted is not None:
            self._log.warning("abort.cleared")
        self.aborted = found

    def is_open(self) -> bool:
        """Return True if a command may go."""
        self.look()
        if self.aborted is not None:
            return False
        wait_s = self._rate.wait_s()
        if wait_s > 0 and not self._is_waiting:
            self._log.warning("link.rate-limited", wait_s=round(wait_s, 3), setting="[link] most_commands_per_minute")
        self._is_waiting = wait_s > 0
        return not self._is_waiting

    def passes(self) -> bool:
        """Look a last time, right before the socket; when it is open the command is counted."""
        self.look()
        if self.aborted is None:
            self._rate.count()
        return self.aborted is None
