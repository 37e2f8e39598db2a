"""Peak memory of this process."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def peak_memory_mb() -> float | None:
    """Largest resident memory of this process so far; None on Windows, which does not count it so."""
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415 - there is none on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)


def resident_memory_mb() -> float | None:
    """Resident memory of this process now; None where the system does not say it in a file."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
