"""The state (2), (3), place by place."""

from __future__ import annotations

import numpy as np
import pytest

from semd.domain.axes import AXES, Axis, Parameters
from semd.domain.exposure import Exposure
from semd.domain.features import Features
from semd.domain.limits import Window
from semd.domain.observation import Measurement
from semd.domain.state import FEATURES_PER_FRAME, frame_features, stack_state

WINDOW = Window(
    centre={Axis.WD: 10.0, Axis.BRIGHTNESS: 50.0, Axis.CONTRAST: 50.0},
    half_width={Axis.WD: 2.0, Axis.BRIGHTNESS: 50.0, Axis.CONTRAST: 50.0},
)
# 400 pixels, GRD per pixel 63.75 = 255 / 4, so that its normalised root is 0.5
MEASURED = Measurement(
    score=7.5,
    features=Features(avg=191.25, grd=400 * 63.75, var=63.75**2, pixels=400),
    exposure=Exposure(0.0, 0.0, 191.25, 120.0),
)
NOW = Parameters(magnification=1000.0, wd_mm=11.0, brightness=75.0, contrast=40.0)
BEFORE = Parameters(magnification=1000.0, wd_mm=10.6, brightness=65.0, contrast=50.0)


def test_the_ten_features_by_hand() -> None:
    features = frame_features(NOW, MEASURED, BEFORE, WINDOW, rho=0.25)
    #          score  AVG  GRD  VAR  WD   BRT  CNT
    expected = [0.75, 0.5, 0.5, 0.5, 0.5, 0.5, -0.2]
    # steps over rho * (U - L): 0.4 mm / (0.25 * 4 mm), 10 / 25, -10 / 25
    expected += [0.4, 0.4, -0.4]
    assert features == pytest.approx(expected)
    assert len(features) == FEATURES_PER_FRAME


def test_a_first_frame_has_no_step() -> None:
    assert frame_features(NOW, MEASURED, None, WINDOW, 0.25)[7:] == [0.0, 0.0, 0.0]


def test_axes_that_are_not_controlled_are_zero() -> None:
    features = frame_features(NOW, MEASURED, BEFORE, WINDOW, 0.25, axes=(Axis.WD,))
    assert features[4:] == pytest.approx([0.5, 0.0, 0.0, 0.4, 0.0, 0.0])


def test_a_full_step_is_one() -> None:
    moved = Parameters(magnification=1000.0, wd_mm=10.6 + 0.25 * 4.0, brightness=90.0, contrast=25.0)
    assert frame_features(moved, MEASURED, BEFORE, WINDOW, 0.25)[7:] == pytest.approx([1.0, 1.0, -1.0])


def row(value: float) -> list[float]:
    return [value] * FEATURES_PER_FRAME


def test_stack_keeps_the_last_frames_oldest_first() -> None:
    state = stack_state([row(1), row(2), row(3), row(4)], 3)
    assert state.dtype == np.float32
    assert state.tolist() == [*row(2), *row(3), *row(4)]


def test_stack_puts_the_first_frame_at_rest_in_empty_places() -> None:
    state = stack_state([row(1), row(2)], 4)
    at_rest = [1.0] * 7 + [0.0] * 3
    assert state.tolist() == [*at_rest, *at_rest, *row(1), *row(2)]


def test_stack_needs_a_frame() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        stack_state([], 3)


def test_the_order_of_the_axes_is_that_of_the_enumeration() -> None:
    assert AXES == (Axis.WD, Axis.BRIGHTNESS, Axis.CONTRAST)
