"""Exponential backoff with jitter."""

from __future__ import annotations

import random


class Backoff:
    """Waiting times that double up to a limit, each reduced at random by up to half.

    Args:
        first_s: first waiting time in seconds.
        limit_s: longest waiting time in seconds.
        rng: source of the jitter, which keeps clients from reconnecting simultaneously.
    """

    def __init__(self, first_s: float, limit_s: float, rng: random.Random) -> None:
        self._first_s = first_s
        self._limit_s = limit_s
        self._rng = rng
        self._next_s = first_s

    def next_s(self) -> float:
        """Return the next waiting time in seconds."""
        pause_s = self._next_s * self._rng.uniform(0.5, 1.0)
        self._next_s = min(2.0 * self._next_s, self._limit_s)
        return pause_s

    def reset(self) -> None:
        """Restart from the first waiting time, after a success."""
        self._next_s = self._first_s
