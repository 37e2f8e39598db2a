"""Waiting time before the next attempt."""

from __future__ import annotations

import random


class Backoff:
    """Pauses that double up to a limit, each shortened at random by up to a half.

    Args:
        first_s: the first pause.
        limit_s: the longest.
        rng: so that many clients do not come back at the same moment.
    """

    def __init__(self, first_s: float, limit_s: float, rng: random.Random) -> None:
        self._first_s = first_s
        self._limit_s = limit_s
        self._rng = rng
        self._next_s = first_s

    def next_s(self) -> float:
        """Return the next pause in seconds."""
        pause_s = self._next_s * self._rng.uniform(0.5, 1.0)
        self._next_s = min(2.0 * self._next_s, self._limit_s)
        return pause_s

    def reset(self) -> None:
        """Begin again with the first pause: it worked."""
        self._next_s = self._first_s
