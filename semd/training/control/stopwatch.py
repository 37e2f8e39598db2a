"""Time budget of a training, by part."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stopwatch:
    """A stopwatch for the parts of a training.

    Attributes:
        frames: frames taken under the watch, those before a resumption not counted.
        seconds: time spent in each part, in s.
    """

    frames: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time of what happens within to a part."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun

    @property
    def total_s(self) -> float:
        """All parts together, in s."""
        return sum(self.seconds.values())

    def as_text(self) -> str:
        """One line for a terminal."""
        if not self.seconds or not self.total_s > 0.0:
            return "no frames taken"
        shares = ", ".join(f"{name} {part / self.total_s:.0%}" for name, part in self.seconds.items())
        return f"{self.frames:,} frames in {self.total_s:,.0f} s, {self.frames / self.total_s:,.0f} a second: {shares}"
