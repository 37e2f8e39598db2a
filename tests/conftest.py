"""For all tests: two workers, and hypothesis without deadlines."""

from __future__ import annotations

import os
from pathlib import Path

# Two workers share two cores: each computes on one thread, and threads that wait do not spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
from hypothesis import settings

# The time that an example takes on a busy machine says nothing about what is tested.
settings.register_profile("semd", deadline=None)
settings.load_profile("semd")

TESTS = Path(__file__).parent
TIERS_WITH_PROCESSES = ("acceptance", "integration", "crash", "fuzz")
"""Tiers that start processes and keep deadlines: one worker runs them, one test after the other."""
BESIDE_THEM = ("acceptance/test_real_frames.py", "integration/test_calibrate.py")
"""Files of these tiers whose tests keep no deadline shorter than several times what they take."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests with processes to one worker, and keep the tests of each other file together."""
    for item in items:
        place = item.path.relative_to(TESTS)
        alone = place.parts[0] in TIERS_WITH_PROCESSES and place.as_posix() not in BESIDE_THEM
        item.add_marker(pytest.mark.xdist_group("processes" if alone else place.as_posix()))
