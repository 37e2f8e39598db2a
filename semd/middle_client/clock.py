"""Clock of the Middle Client, injected so that tests can set the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Clock:
    """Wall clock and monotonic clock.

    Attributes:
        now: function that returns the time in UTC, compared with EXPIRES.
        monotonic_s: function that returns the monotonic time in seconds, for timeouts.
    """

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic_s: Callable[[], float] = time.monotonic
