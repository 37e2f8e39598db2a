"""How much memory this process has needed."""

from __future__ import annotations

import sys


def peak_memory_mb() -> float | None:
    """Largest resident memory of this process so far; None on Windows, which does not count it so."""
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415 - there is none on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)
