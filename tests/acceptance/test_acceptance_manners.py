"""Every manner of writing frames is borne by the daemon: each frame is taken whole and answered once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from isem_bench import Bench
from isem_manners import GENTLE, MANNERS

pytestmark = pytest.mark.slow

FRAMES_EACH = 2


@pytest.fixture(scope="module")
def series(make_shared_bench: Callable[..., Bench]) -> Bench:
    """Return one bench with running processes that all tests of this module share (series layout)."""
    bench = make_shared_bench(max_frames=0)
    bench.start("run", "middle-client")
    return bench


@pytest.mark.parametrize("name", list(MANNERS))
def test_series_manner(series: Bench, name: str) -> None:
    before = len(series.sem.frames)
    series.sem.use_manners([MANNERS[name]])
    series.sem.allow(FRAMES_EACH)
    series.operator_defocuses()
    series.wait_for("frames", series.frames_written(before + FRAMES_EACH), keep_busy=True)

    def answered() -> bool:
        return not series.sem.scanning() and not series.audit.unanswered()

    series.wait_for(f"{name}: every frame answered and delivered", answered)
    assert series.sem.server.violations == []


def test_series_accounts_of_all_manners(series: Bench) -> None:
    series.settle()


def test_single_layout_takes_every_pair_whole(make_bench: Callable[..., Bench]) -> None:
    names = ("image-first", "text-first", "slow-text-first", "preallocated", "renamed")
    bench = make_bench(layout="single", manners=[MANNERS[name] for name in names], max_frames=6)
    bench.start("run", "middle-client")
    bench.sem.scan()
    bench.wait_for("6 frames", bench.frames_written(6), keep_busy=True)
    bench.settle()


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


def test_backlog_faulty_frames_and_strays(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(manners=[GENTLE], max_frames=1)
    watch = bench.sem.watch_dir
    strays = write_strays(watch)
    bench.sem.scan()
    bench.wait_for("a frame before the daemon starts", bench.frames_written(1))
    bad_text = bench.sem.write_extra("bad-text")
    bench.start("run", "middle-client")
    bench.wait_for("the frame that was there first is answered", bench.actions_filed(1))
    bench.sem.allow(2)
    torn = bench.sem.write_extra("torn-image")
    bench.sem.write_extra("orphan-image")
    bench.sem.write_extra("orphan-text")
    bench.wait_for("HOLD for the torn image makes the loop go on", bench.frames_written(7), keep_busy=True)
    bench.settle(timeout_s=38.0)
    held = [action for action in bench.audit.actions() if action.frame == torn.stem]
    assert [action.status for action in held] == ["HOLD"]
    assert not any(action.frame == bad_text.stem for action in bench.audit.actions())
    assert {name: (watch / name).read_bytes() for name in strays} == strays
    assert (watch / "old.jpg").is_dir()
