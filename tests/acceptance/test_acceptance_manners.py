"""Every manner of writing frames is borne by the daemon: each frame is taken whole and answered once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from isem_manners import GENTLE, MANNERS
from isem_system import SystemUnderTest

pytestmark = pytest.mark.slow

FRAMES_EACH = 2


@pytest.fixture(scope="module")
def series(make_shared_bench: Callable[..., SystemUnderTest]) -> SystemUnderTest:
    """Return one system with running processes that all tests of this module share (series layout)."""
    system = make_shared_bench(max_frames=0)
    system.start("run", "middle-client")
    return system


@pytest.mark.parametrize("name", list(MANNERS))
def test_series_manner(series: SystemUnderTest, name: str) -> None:
    before = len(series.sem.frames)
    series.sem.use_manners([MANNERS[name]])
    series.sem.allow(FRAMES_EACH)
    series.operator_defocuses()
    series.wait_for("frames", series.frames_written(before + FRAMES_EACH), keep_busy=True)

    def answered() -> bool:
        return not series.sem.scanning() and not series.audit.unanswered()

    series.wait_for(f"{name}: every frame answered and delivered", answered)
    assert series.sem.server.violations == []


def test_series_accounts_of_all_manners(series: SystemUnderTest) -> None:
    series.settle()


def test_single_layout_takes_every_pair_whole(make_system: Callable[..., SystemUnderTest]) -> None:
    names = ("image-first", "text-first", "slow-text-first", "preallocated", "renamed")
    system = make_system(layout="single", manners=[MANNERS[name] for name in names], max_frames=6)
    system.start("run", "middle-client")
    system.sem.scan()
    system.wait_for("6 frames", system.frames_written(6), keep_busy=True)
    system.settle()


def write_strays(watch: Path) -> dict[str, bytes]:
    """Put files that are no frames into the watch directory; return name to content."""
    strays = {
        "Thumbs.db": b"\xd0\xcf\x11\xe0",
        "desktop.ini": b"[.ShellClassInfo]\r\n",
        "survey.csv": b"x,y\r\n1,2\r\n",
        "frame-000001.jpg.bak": b"old",
        ".lock": b"",
    }
    for name, data in strays.items():
        (watch / name).write_bytes(data)
    (watch / "old.jpg").mkdir()
    return strays


def test_backlog_faulty_frames_and_strays(make_system: Callable[..., SystemUnderTest]) -> None:
    system = make_system(manners=[GENTLE], max_frames=1)
    watch = system.sem.watch_dir
    strays = write_strays(watch)
    system.sem.scan()
    system.wait_for("a frame before the daemon starts", system.frames_written(1))
    bad_text = system.sem.write_extra("bad-text")
    system.start("run", "middle-client")
    system.wait_for("the frame that was there first is answered", system.actions_filed(1))
    system.sem.allow(2)
    torn = system.sem.write_extra("torn-image")
    system.sem.write_extra("orphan-image")
    system.sem.write_extra("orphan-text")
    system.wait_for("HOLD for the torn image makes the loop go on", system.frames_written(7), keep_busy=True)
    system.settle(timeout_s=38.0)
    held = [action for action in system.audit.actions() if action.frame == torn.stem]
    assert [action.status for action in held] == ["HOLD"]
    assert not any(action.frame == bad_text.stem for action in system.audit.actions())
    assert {name: (watch / name).read_bytes() for name in strays} == strays
    assert (watch / "old.jpg").is_dir()
