"""Brent's search on the gradient energy, as in OughtaFocus of Micro-Manager.

R. P. Brent, Algorithms for Minimization without Derivatives, 1973, chapter 5 (`localmin`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from semd.evaluation.baselines.baseline_harness import FRAME_BUDGET, BaselineHarness

_GOLDEN = 0.5 * (3.0 - math.sqrt(5.0))
_TOLERANCE_U = 0.5


class Brent:
    """Brent's search over the whole range, with a tolerance of half a depth of field."""

    def focus(self, harness: BaselineHarness) -> bool:
        """Search and move to the best working distance; the method always reports success."""
        best_mm = bounded_maximum(
            lambda wd_mm: gradient_energy(harness.scan_at(wd_mm).image),
            *harness.range_mm,
            _TOLERANCE_U * harness.unit_mm,
        )
        harness.apply(wd_mm=best_mm)
        return True


def gradient_energy(image: NDArray[np.uint8]) -> float:
    """Mean square difference of neighbouring pixels along rows and columns of a frame, uint8 (H, W)."""
    grey = image.astype(np.float32)
    return float(np.square(np.diff(grey, axis=0)).mean() + np.square(np.diff(grey, axis=1)).mean())


def bounded_maximum(
    value: Callable[[float], float], low: float, high: float, tolerance: float, most: int = FRAME_BUDGET
) -> float:
    """Find a maximum of `value` within [low, high]; return the best argument evaluated.

    Args:
        value: the function; evaluated once for each argument.
        low: lower end.
        high: upper end, above `low`.
        tolerance: tolerance of the argument, and the smallest distance between two evaluations.
        most: largest number of evaluations.
    """
    # x, w, v: best, second and third best argument. Values are negated, since Brent's algorithm minimises.
    x = w = v = low + _GOLDEN * (high - low)
    fx = fw = fv = -value(x)
    step = last_step = 0.0
    for _ in range(most - 1):
        middle = 0.5 * (low + high)
        if abs(x - middle) <= 2.0 * tolerance - 0.5 * (high - low):
            break
        before_last, last_step = last_step, step
        parabola = _parabola_step(x, w, v, fx, fw, fv)
        # A parabolic step must stay inside and shrink; otherwise take a golden section of the larger part.
        if parabola is not None and abs(parabola) < 0.5 * abs(before_last) and low < x + parabola < high:
            is_near_an_end = min(x + parabola - low, high - x - parabola) < 2.0 * tolerance
            step = math.copysign(tolerance, middle - x) if is_near_an_end else parabola
        else:
            last_step = (low if x >= middle else high) - x
            step = _GOLDEN * last_step
        u = x + (step if abs(step) >= tolerance else math.copysign(tolerance, step))
        fu = -value(u)
        if fu <= fx:
            low, high = (x, high) if u >= x else (low, x)
            v, w, x, fv, fw, fx = w, x, u, fw, fx, fu
            continue
        low, high = (u, high) if u < x else (low, u)
        if fu <= fw or w == x:
            v, w, fv, fw = w, u, fw, fu
        elif fu <= fv or v in (x, w):
            v, fv = u, fu
    return x


def _parabola_step(x: float, w: float, v: float, fx: float, fw: float, fv: float) -> float | None:
    """Step from `x` to the vertex of the parabola through three points; None if they define no parabola."""
    r, q = (x - w) * (fx - fv), (x - v) * (fx - fw)
    p, q = (x - v) * q - (x - w) * r, 2.0 * (q - r)
    return -p / q if q != 0.0 else None
