"""The filmstrip: one JPEG with the first and the last frame of a run."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from matplotlib.image import imread

from semd.demo.demo import DemoStep
from semd.demo.filmstrip import render_filmstrip


def step(number: int, level: int) -> DemoStep:
    scan = SimpleNamespace(image=np.full((480, 640), level, np.uint8), wd_mm=10.0)
    action = SimpleNamespace(score=5.0, status="ADJUST")
    return cast(DemoStep, SimpleNamespace(number=number, scan=scan, action=action))


@pytest.mark.parametrize(("frames", "shown"), [(1, 1), (3, 3), (5, 5), (12, 5)])
def test_width_follows_the_frames_shown(frames: int, shown: int) -> None:
    picture = imread(io.BytesIO(render_filmstrip([step(i, 20 * i) for i in range(frames)])), format="jpeg")
    assert picture.shape[1] == 300 * shown


def test_first_and_last_frame_are_shown() -> None:
    picture = imread(io.BytesIO(render_filmstrip([step(i, 20 * i) for i in range(12)])), format="jpeg")
    assert abs(int(picture[60, 100, 0]) - 0) <= 3
    assert abs(int(picture[60, -100, 0]) - 220) <= 3
