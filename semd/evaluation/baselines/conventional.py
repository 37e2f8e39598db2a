"""Conventional scheme of the papers: sweep one setting after the other and keep the value with the largest metric.

The papers do not publish the details. This is the textbook scheme: a coarse sweep of the working distance over the
whole range, then a fine sweep about the best value; with `exposure`, coarse sweeps of brightness and contrast before
and fine ones after.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from semd.domain.exposure import measure_exposure
from semd.domain.features import grey_histogram
from semd.evaluation.baselines.baseline_harness import BaselineHarness, View
from semd.evaluation.baselines.sharpness_metrics import Metric, variance_metric

_COARSE_FRAMES, _FINE_FRAMES, _EXPOSURE_FRAMES = 13, 9, 5
_EXPOSURE_RANGE, _EXPOSURE_REACH = (10.0, 90.0), 10.0
_TOLERATED_CLIPPING = 0.03


class Conventional:
    """Coarse and fine sweeps: 22 frames for the focus, 42 with brightness and contrast."""

    def __init__(self, metric: Metric, *, exposure: bool = False) -> None:
        """Store a metric that is largest in focus, and whether to set brightness and contrast as well."""
        self._metric = metric
        self._exposure = exposure

    def focus(self, harness: BaselineHarness) -> bool:
        """Sweep and move to the best settings; the method always reports success."""
        if self._exposure:
            _set_exposure(harness, *(np.linspace(*_EXPOSURE_RANGE, _EXPOSURE_FRAMES) for _ in range(2)))
        low_mm, high_mm = harness.range_mm
        self._set_wd(harness, np.linspace(low_mm, high_mm, _COARSE_FRAMES))
        step_mm = (high_mm - low_mm) / (_COARSE_FRAMES - 1)
        self._set_wd(harness, np.linspace(harness.wd_mm - step_mm, harness.wd_mm + step_mm, _FINE_FRAMES))
        if self._exposure:
            about = np.linspace(-_EXPOSURE_REACH, _EXPOSURE_REACH, _EXPOSURE_FRAMES)
            _set_exposure(harness, harness.brightness + about, harness.contrast + about)
        return True

    def _set_wd(self, harness: BaselineHarness, places_mm: NDArray[np.float64]) -> None:
        best = _sweep(
            harness, lambda wd_mm: harness.apply(wd_mm=wd_mm), places_mm, lambda view: (self._metric(view.image),)
        )
        harness.apply(wd_mm=best.wd_mm)


def _set_exposure(harness: BaselineHarness, brightness: NDArray[np.float64], contrast: NDArray[np.float64]) -> None:
    best = _sweep(harness, lambda value: harness.apply(brightness=value), brightness, _spread)
    harness.apply(brightness=best.brightness)
    best = _sweep(harness, lambda value: harness.apply(contrast=value), contrast, _spread)
    harness.apply(contrast=best.contrast)


def _sweep(
    harness: BaselineHarness,
    turn: Callable[[float], None],
    places: NDArray[np.float64],
    liking: Callable[[View], tuple[float, ...]],
) -> View:
    """Scan one frame at each setting and return the frame that `liking` ranks highest."""
    views = []
    for place in places:
        turn(float(place))
        views.append(harness.scan())
    return max(views, key=liking)


def _spread(view: View) -> tuple[float, ...]:
    """Rank frames by their clipping above the tolerated share, then by variance.

    Variance alone is largest for a frame of pure black and white.
    """
    exposure = measure_exposure(grey_histogram(view.image))
    return -max(exposure.black + exposure.white, _TOLERATED_CLIPPING), variance_metric(view.image)
