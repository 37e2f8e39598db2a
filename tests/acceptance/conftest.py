"""Fixtures of the acceptance tests: a system with a virtual SEM and the real processes.

Tests that take `make_system` need the command line of the package. Where it is missing they fail and say so;
they are never skipped.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from independent_sem import VirtualSem
from isem_column import Column
from isem_system import SystemUnderTest

BenchMaker = Callable[..., SystemUnderTest]


@pytest.fixture(scope="session")
def semd_command(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Fail clearly where `python -m semd` does not start."""
    # Away from the repository, like the benches: `-m` would otherwise prefer the current directory.
    answer = subprocess.run(
        [sys.executable, "-m", "semd", "--help"],
        cwd=tmp_path_factory.mktemp("command"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if answer.returncode != 0:
        cause = answer.stderr.strip().splitlines()[-1:] or ["no message"]
        pytest.fail(f"the command line `python -m semd` (semd.cli) does not start: {cause[0]}", pytrace=False)


def system_maker(stack: ExitStack, root: Path) -> BenchMaker:
    """Return a function that builds one system below `root`; `stack` ends it.

    The function takes what `VirtualSem` takes by keyword, and for the column: `sample`, `magnification`,
    `discs_off` (signed, in tolerable discs), `brightness`, `contrast`, `column_seed`; and `scoring_delay_s`, which
    slows the scoring of each frame down.
    """

    def make(
        *,
        sample: str = "islands",
        magnification: float = 2000.0,
        discs_off: float = 10.0,
        brightness: float = 50.0,
        contrast: float = 50.0,
        column_seed: int = 1,
        scoring_delay_s: float = 0.0,
        **sem_options: Any,
    ) -> SystemUnderTest:
        watch = root / "watch"
        watch.mkdir()
        column = Column.off_focus(
            sample,
            magnification=magnification,
            focus_mm=9.5,
            discs_off=discs_off,
            brightness=brightness,
            contrast=contrast,
            seed=column_seed,
        )
        return stack.enter_context(
            SystemUnderTest(root, VirtualSem(watch, column, **sem_options), scoring_delay_s=scoring_delay_s)
        )

    return make


@pytest.fixture
def make_system(semd_command: None, tmp_path: Path) -> Iterator[BenchMaker]:
    """Return the system maker of one test."""
    with ExitStack() as stack:
        yield system_maker(stack, tmp_path)


@pytest.fixture(scope="module")
def make_shared_bench(semd_command: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BenchMaker]:
    """Return the system maker of one module."""
    with ExitStack() as stack:
        yield system_maker(stack, tmp_path_factory.mktemp("shared"))
