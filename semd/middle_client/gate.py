"""Gate in front of the socket: closed by the abort file and by the rate limit."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from math import ceil

import structlog

from semd.middle_client.abort import AbortFile
from semd.middle_client.clock import Clock

_MINUTE_S = 60.0


class RateLimit:
    """Maximum number of commands in any 60 s of the monotonic clock. The journal keeps the count across restarts.

    Args:
        most_per_minute: the maximum, at least 1.
        clock: source of the monotonic time.
    """

    def __init__(self, most_per_minute: int, clock: Clock) -> None:
        self._clock = clock
        self._times_s: deque[float] = deque(maxlen=most_per_minute)

    def wait_s(self) -> float:
        """Return the seconds until the next command may be sent; 0 if it may be sent now."""
        if len(self._times_s) < (self._times_s.maxlen or 0):
            return 0.0
        return max(0.0, self._times_s[0] + _MINUTE_S - self._clock.monotonic_s())

    def count(self) -> None:
        """Count a command that is being sent now."""
        now_s = self._clock.monotonic_s()
        while self._times_s and now_s - self._times_s[0] >= _MINUTE_S:
            self._times_s.popleft()
        self._times_s.append(now_s)

    def memory(self, *, with_one_more: bool) -> tuple[tuple[int, int], ...]:
        """Return the commands of the last minute for the journal, as (second, number sent); seconds are rounded up.

        Args:
            with_one_more: True to include a command that is about to be sent.
        """
        now_s = self._clock.monotonic_s()
        times_s = [time_s for time_s in self._times_s if now_s - time_s < _MINUTE_S]
        return tuple(sorted(Counter(map(ceil, [*times_s, now_s] if with_one_more else times_s)).items()))

    def remember(self, commands: Iterable[tuple[int, int]]) -> None:
        """Restore the commands that an earlier process left in the journal.

        The monotonic clock continues across processes and restarts with the computer. A time ahead of it is from
        before the restart, so that command is at least as old as the uptime. The wall clock is not used because it
        can be set.
        """
        now_s = self._clock.monotonic_s()
        for second, count in commands:
            time_s = 0.0 if second > now_s + 1.0 else min(float(second), now_s)
            self._times_s.extend([time_s] * min(count, self._times_s.maxlen or 0))
        self._times_s = deque(sorted(self._times_s), maxlen=self._times_s.maxlen)


class Gate:
    """Check before each command, once before anything is recorded and again just before the socket.

    Args:
        abort: the abort file, which closes the gate.
        rate: the rate limit, which closes the gate temporarily.
    """

    def __init__(self, abort: AbortFile, rate: RateLimit) -> None:
        self._abort = abort
        self._rate = rate
        self._is_waiting = False
        self._log = structlog.get_logger()
        self.aborted: str | None = None

    def look(self) -> None:
        """Check for the abort file and set `aborted` to the reason why nothing may be sent, or to None."""
        found = self._abort.standing()
        if found is not None and self.aborted is None:
            self._log.error("abort.stands", reason=found, consequence="nothing is sent until `semd abort --clear`")
        elif found is None and self.aborted is not None:
            self._log.warning("abort.cleared")
        self.aborted = found

    def is_open(self) -> bool:
        """Return True if a command may be sent."""
        self.look()
        if self.aborted is not None:
            return False
        wait_s = self._rate.wait_s()
        if wait_s > 0 and not self._is_waiting:
            self._log.warning("link.rate-limited", wait_s=round(wait_s, 3), setting="[link] most_commands_per_minute")
        self._is_waiting = wait_s > 0
        return not self._is_waiting

    def passes(self) -> bool:
        """Check the abort file again just before the socket, and count the command if it may be sent."""
        self.look()
        if self.aborted is None:
            self._rate.count()
        return self.aborted is None
