"""Schedule of injected faults: listed ones, and random ones from a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

F = TypeVar("F")


@dataclass(slots=True)
class FaultPlan(Generic[F]):
    """Schedule of faults for numbered events; the first event is 1.

    Attributes:
        listed: faults at numbered events.
        share: share of all other events that get a random fault, 0..1.
        kinds: faults that random ones are chosen from.
        rng: random generator of those.
        happened: number of times that each fault was returned.
    """

    listed: Mapping[int, F] = field(default_factory=dict)
    share: float = 0.0
    kinds: Sequence[F] = ()
    rng: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - no secret
    happened: Counter[F] = field(default_factory=Counter)
    _number: int = 0

    def next(self) -> F | None:
        """Return the fault of the next event, or None."""
        self._number += 1
        fault = self.listed.get(self._number)
        if fault is None and self.kinds and self.rng.random() < self.share:
            fault = self.rng.choice(self.kinds)
        if fault is not None:
            self.happened[fault] += 1
        return fault
