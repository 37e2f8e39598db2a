"""The conventional scheme of the papers: sweep the knobs, one after the other, and keep what a plain metric likes best.

The papers do not publish theirs. Ours is the textbook's: the working distance coarsely over the whole range, then
finely about the best place; with `exposure`, brightness and contrast coarsely before and finely after.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from semd.domain.exposure import measure_exposure
from semd.domain.features import grey_histogram
from semd.evaluation.baselines.baseline_harness import Bench, View
from semd.evaluation.baselines.sharpness_metrics import Metric, variance_metric

_COARSE_FRAMES, _FINE_FRAMES, _EXPOSURE_FRAMES = 13, 9, 5
_EXPOSURE_RANGE, _EXPOSURE_REACH = (10.0, 90.0), 10.0
_TOLERATED_CLIPPING = 0.03


class Conventional:
    """Coarse and fine sweeps: 22 frames for the focus, 42 with brightness and contrast."""

    def __init__(self, metric: Metric, *, exposure: bool = False) -> None:
        """Take the metric that a good focus makes large, and whether to set brightness and contrast, too."""
        self._metric = metric
        self._exposure = exposure

    def focus(self, bench: Bench) -> bool:
        """Sweep; such a scheme always believes in what it found."""
        if self._exposure:
            _set_exposure(bench, *(np.linspace(*_EXPOSURE_RANGE, _EXPOSURE_FRAMES) for _ in range(2)))
        low_mm, high_mm = bench.range_mm
        self._set_wd(bench, np.linspace(low_mm, high_mm, _COARSE_FRAMES))
        step_mm = (high_mm - low_mm) / (_COARSE_FRAMES - 1)
        self._set_wd(bench, np.linspace(bench.wd_mm - step_mm, bench.wd_mm + step_mm, _FINE_FRAMES))
        if self._exposure:
            about = np.linspace(-_EXPOSURE_REACH, _EXPOSURE_REACH, _EXPOSURE_FRAMES)
            _set_exposure(bench, bench.brightness + about, bench.contrast + about)
        return True

    def _set_wd(self, bench: Bench, places_mm: NDArray[np.float64]) -> None:
        best = _sweep(
            bench, lambda wd_mm: bench.apply(wd_mm=wd_mm), places_mm, lambda view: (self._metric(view.image),)
        )
        bench.apply(wd_mm=best.wd_mm)


def _set_exposure(bench: Bench, brightness: NDArray[np.float64], contrast: NDArray[np.float64]) -> None:
    best = _sweep(bench, lambda value: bench.apply(brightness=value), brightness, _spread)
    bench.apply(brightness=best.brightness)
    best = _sweep(bench, lambda value: bench.apply(contrast=value), contrast, _spread)
    bench.apply(contrast=best.contrast)


def _sweep(
    bench: Bench,
    turn: Callable[[float], None],
    places: NDArray[np.float64],
    liking: Callable[[View], tuple[float, ...]],
) -> View:
    """Scan with a knob at each of the places; the view that is liked best."""
    views = []
    for place in places:
        turn(float(place))
        views.append(bench.scan())
    return max(views, key=liking)


def _spread(view: View) -> tuple[float, ...]:
    """Variance, among frames that clip little; of the others the one that clips least.

    Variance alone would be largest for a frame of black and white.
    """
    exposure = measure_exposure(grey_histogram(view.image))
    return -max(exposure.black + exposure.white, _TOLERATED_CLIPPING), variance_metric(view.image)
