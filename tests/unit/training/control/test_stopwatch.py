"""The stopwatch of a training."""

from __future__ import annotations

import pytest

from semd.training.control.stopwatch import Stopwatch


def test_parts_add_up_and_are_told_with_their_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 3.0, 3.0, 4.0, 10.0, 16.0])
    monkeypatch.setattr("semd.training.control.stopwatch.time.perf_counter", lambda: next(ticks))
    stopwatch = Stopwatch(frames=5000)
    for name in ("environment", "learning", "environment"):
        with stopwatch.measure(name):
            pass
    assert stopwatch.seconds == {"environment": 9.0, "learning": 1.0}
    assert stopwatch.total_s == 10.0
    assert stopwatch.as_text() == "5,000 frames in 10 s, 500 a second: environment 90%, learning 10%"


def test_a_part_that_fails_is_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([1.0, 2.5])
    monkeypatch.setattr("semd.training.control.stopwatch.time.perf_counter", lambda: next(ticks))
    stopwatch = Stopwatch()
    with pytest.raises(ValueError, match="lost"), stopwatch.measure("learning"):
        raise ValueError("lost")
    assert stopwatch.seconds == {"learning": 1.5}


def test_without_frames_there_is_nothing_to_tell() -> None:
    assert Stopwatch().as_text() == "no frames taken"
