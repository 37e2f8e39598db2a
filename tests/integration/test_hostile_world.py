"""Directories replaced under the daemon, clocks that are set, events that are dropped, files nobody may read."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from harness import daemon_process
from harness.daemon_process import TEXT, DaemonUnderTest, jpeg, make_daemon

from semd.domain.frame_score import FrameScore
from semd.protocol.action import Status


def health(daemon: DaemonUnderTest) -> dict[str, object]:
    path = daemon.config.state.directory / "health.json"
    found: dict[str, object] = json.loads(path.read_bytes()) if path.exists() else {}
    return found


def test_a_share_that_is_taken_away_and_comes_back(tmp_path: Path) -> None:
    """Unmounted, there is an empty directory in its place; mounted again, all the old frames are there at once."""
    daemon = make_daemon(tmp_path)
    away, empty = tmp_path / "away", tmp_path / "empty"
    empty.mkdir()
    with daemon.running():
        for number in range(3):
            daemon.write_good(f"old-{number}", seed=number)
        daemon.until(lambda: len(daemon.actions()) == 3)
        for _ in range(2):
            daemon.watch.rename(away)
            empty.rename(daemon.watch)
            daemon.write_good(f"in-between-{len(daemon.actions())}", seed=len(daemon.actions()) + 10)
            count = len(daemon.actions())
            daemon.until(lambda count=count: len(daemon.actions()) == count + 1)
            daemon.watch.rename(empty)
            away.rename(daemon.watch)
            daemon.write_good(f"after-{count}", seed=count + 20)
            daemon.until(lambda count=count: len(daemon.actions()) == count + 2)
    frames = [action.frame for action in daemon.actions()]
    assert len(frames) == len(set(frames)) == 7
    assert daemon.reasons() == {}


def test_a_directory_moved_away_takes_its_half_frame_along(tmp_path: Path) -> None:
    daemon = make_daemon(tmp_path, settle_s=5.0)
    away = tmp_path / "away"
    with daemon.running() as loop:
        (daemon.watch / "half.jpg").write_bytes(jpeg(1))
        daemon.until(lambda: loop._inbox.waiting == 1)
        daemon.watch.rename(away)
        daemon.until(lambda: bool(daemon.events("storage.failed")))
        daemon.watch.mkdir()
        daemon.write_good("next", seed=2)
        daemon.answered("next")
        daemon.until(lambda: loop._inbox.waiting == 0)
    # Taken along, not set aside after the settle time.
    assert daemon.reasons() == {}
    assert (away / "half.jpg").exists()


def test_dropped_events_are_said_and_made_good(tmp_path: Path) -> None:
    daemon = make_daemon(tmp_path)
    with daemon.running() as loop:
        daemon.write_good("a")
        daemon.answered("a")
        loop._watch._handler.lose()
        daemon.until(lambda: bool(daemon.events("watch.overflow")))
        daemon.write_good("b", seed=2)
        daemon.answered("b")
    (event,) = daemon.events("watch.overflow")
    assert event["level"] == "warning"


@pytest.mark.parametrize("layout", ["series", "single"])
def test_a_clock_that_is_set_back_and_forth_changes_no_answer(
    tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    offset = timedelta()
    monkeypatch.setattr(daemon_process, "now", lambda: datetime.now(UTC) + offset)
    daemon = make_daemon(tmp_path, layout)
    with daemon.running():
        for number, hours in enumerate((0, -48, 48, -1, 1)):
            offset = timedelta(hours=hours)
            stem = "ResponseImage" if layout == "single" else f"frame-{number}"
            for suffix, data in ((".jpg", jpeg(number)), (".txt", TEXT.format(wd=9500, sample="a").encode())):
                hidden = daemon.watch / f".{stem}{suffix}"
                hidden.write_bytes(data)
                written_ns = hidden.stat().st_mtime_ns + hours * 3600 * 10**9
                os.utime(hidden, ns=(written_ns, written_ns))
                hidden.rename(daemon.watch / f"{stem}{suffix}")
            daemon.until(lambda number=number: len(daemon.actions()) == number + 1)
    actions = daemon.actions()
    assert [action.seq for action in actions] == [1, 2, 3, 4, 5]
    assert {action.status for action in actions} == {Status.ADJUST}
    assert [action.step for action in actions] == [0, 1, 2, 3, 4]  # one run, whatever the clock says
    assert {action.expires - action.issued for action in actions} == {timedelta(seconds=60)}
    assert actions[1].issued < actions[0].issued


def test_a_file_that_is_held_for_ever_is_told_of_and_then_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = make_daemon(tmp_path, settle_s=1.0)
    real = os.open

    def held(path: Path, flags: int) -> int:
        if path.name == "held.jpg":
            raise PermissionError(13, "The process cannot access the file")
        return real(path, flags)

    monkeypatch.setattr("semd.inbox.load.os.open", held)
    with daemon.running():
        daemon.write_good("held")
        daemon.write_good("free", seed=2)
        daemon.answered("free")
        daemon.until(lambda: health(daemon).get("unreadable") == 1)
        assert daemon.answered("held").status is Status.HOLD
        daemon.until(lambda: health(daemon).get("unreadable") == 0)
    (reason,) = daemon.reasons().values()
    assert reason.startswith("SEMD-F08: 'held.jpg' could not be read for 2 s")


class Moody:
    """Fails on dark pictures."""

    def judge(self, image: np.ndarray, magnification: float) -> FrameScore:
        if image.mean() < 20:
            raise FloatingPointError("nothing to divide by")
        return FrameScore(5.0)


def test_a_frame_that_breaks_the_scorer_is_no_crash_loop(tmp_path: Path) -> None:
    daemon = make_daemon(tmp_path)
    daemon.scorer = Moody()
    with daemon.running():
        (daemon.watch / "dark.png").write_bytes(cv2.imencode(".png", np.full((480, 640), 3, np.uint8))[1].tobytes())
        (daemon.watch / "dark.txt").write_text(TEXT.format(wd=9500, sample="a"))
        assert daemon.answered("dark").status is Status.HOLD
        daemon.until(lambda: health(daemon).get("failed_in_a_row") == 1)
        daemon.write_good("good", seed=2)
        assert daemon.answered("good").status is Status.ADJUST
        daemon.until(lambda: health(daemon).get("failed_in_a_row") == 0)
    (event,) = daemon.events("frame.failed")
    assert (event["error"], event["frame"]) == ("SEMD-F10", "dark")
    assert "FloatingPointError" in str(event["exception"])
    with daemon.running():
        daemon.write_good("later", seed=3)
        daemon.answered("later")
    assert len(daemon.events("frame.failed")) == 1
