"""Equations (4) and (5), and the window that the networks see."""

from __future__ import annotations

import math

import pytest

from semd.domain.axes import AXES, Axis
from semd.domain.limits import AxisLimits, Optics, Window, control_window

LIMITS = {
    Axis.WD: AxisLimits(2.0, 40.0),
    Axis.BRIGHTNESS: AxisLimits(0.0, 100.0),
    Axis.CONTRAST: AxisLimits(20.0, 60.0),
}


@pytest.mark.parametrize(("value", "clamped"), [(1.0, 2.0), (2.0, 2.0), (9.5, 9.5), (40.0, 40.0), (41.0, 40.0)])
def test_clamp(value: float, clamped: float) -> None:
    assert LIMITS[Axis.WD].clamp(value) == clamped


@pytest.mark.parametrize(
    ("magnification", "pixel_nm"),
    [(500.0, 396.875), (1000.0, 198.4375), (10_000.0, 19.84375)],
)
def test_pixel_size_from_the_photographic_convention(magnification: float, pixel_nm: float) -> None:
    assert Optics().pixel_mm(magnification) * 1e6 == pytest.approx(pixel_nm)
    assert Optics().pixel_mm(magnification, 82.68) == pytest.approx(82.68e-6)


@pytest.mark.parametrize(
    ("magnification", "unit_mm"),
    [
        # 2 px of 396.875 nm, over 6 mrad
        (500.0, 2 * 396.875e-6 / 6e-3),
        # sqrt(2000 / 500) = 2 times 2 px of 99.21875 nm
        (2000.0, 4 * 99.21875e-6 / 6e-3),
    ],
)
def test_focus_unit(magnification: float, unit_mm: float) -> None:
    assert Optics().focus_unit_mm(magnification) == pytest.approx(unit_mm)


def test_window_is_centred_on_the_start_and_normalises_to_one() -> None:
    window = control_window(LIMITS, Optics(), 9.5, 2000.0, None)
    half_mm = 30 * Optics().focus_unit_mm(2000.0)
    assert window.normalise(Axis.WD, 9.5) == 0.0
    assert window.normalise(Axis.WD, 9.5 + half_mm) == pytest.approx(1.0)
    assert window.normalise(Axis.BRIGHTNESS, 0.0) == -1.0
    assert window.normalise(Axis.CONTRAST, 60.0) == 1.0
    assert window.normalise(Axis.CONTRAST, 40.0) == 0.0


def test_window_is_never_wider_than_the_limits() -> None:
    window = control_window(LIMITS, Optics(), 9.5, 20.0, None)
    assert window.half_width[Axis.WD] == 19.0


def test_without_optics_the_window_is_the_limits() -> None:
    window = control_window(LIMITS, None, 9.5, 2000.0, None)
    assert (window.centre[Axis.WD], window.half_width[Axis.WD]) == (21.0, 19.0)


@pytest.mark.parametrize(
    ("delta", "step"),
    [(0.0, 0.0), (0.1, 5.0), (-0.4, -20.0), (0.41, 20.0), (7.0, 20.0), (math.inf, 20.0), (-math.inf, -20.0)],
)
def test_step_is_bounded_by_rho_times_the_span(delta: float, step: float) -> None:
    window = Window(centre=dict.fromkeys(AXES, 50.0), half_width=dict.fromkeys(AXES, 50.0))
    assert window.step(Axis.BRIGHTNESS, delta, 0.2) == pytest.approx(step)


def test_a_step_that_is_no_number_moves_nothing() -> None:
    window = Window(centre=dict.fromkeys(AXES, 50.0), half_width=dict.fromkeys(AXES, 50.0))
    assert window.step(Axis.BRIGHTNESS, math.nan, 0.2) == 0.0
