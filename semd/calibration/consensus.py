"""Focus of a sweep: several sharpness metrics, a fit of each, and their agreement.

The chosen metrics order real noisy frames correctly, measured on micrographs of the DeepFocus set. Plain gradient and
variance do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from semd.errors import CalibrationError
from semd.evaluation.baselines.sharpness_metrics import band_pass_metric

_MIN_FRAMES = 6
_NEAR_PEAK = 0.4
_ROUNDS = 12


def _laplacian_variance(sigma_px: float) -> Callable[[NDArray[np.uint8]], float]:
    def metric(image: NDArray[np.uint8]) -> float:
        spread = float(image.std())
        if spread == 0.0:
            return 0.0
        standard = (image.astype(np.float32) - np.float32(image.mean())) / np.float32(spread)
        smooth = cv2.GaussianBlur(standard, (0, 0), sigma_px)
        return float(cv2.Laplacian(smooth, cv2.CV_32F).var())

    return metric


METRICS: dict[str, Callable[[NDArray[np.uint8]], float]] = {
    "band-pass 4-8": band_pass_metric,
    "Laplacian 2": _laplacian_variance(2.0),
    "Laplacian 3": _laplacian_variance(3.0),
}


@dataclass(frozen=True, slots=True)
class Peak:
    """Peak of one metric.

    Attributes:
        wd_mm: working distance of the peak.
        error_mm: its standard error, from the scatter about the fit.
    """

    wd_mm: float
    error_mm: float


@dataclass(frozen=True, slots=True)
class Consensus:
    """Focus that the metrics agree on.

    Attributes:
        wd_mm: median of the peaks.
        disagreement_mm: largest less smallest peak.
        peaks: peak of each metric, by name.
    """

    wd_mm: float
    disagreement_mm: float
    peaks: dict[str, Peak]


def measure(image: NDArray[np.uint8]) -> dict[str, float]:
    """Compute every metric of one grey frame, uint8 (H, W)."""
    return {name: metric(image) for name, metric in METRICS.items()}


def find_consensus(wd_mm: NDArray[np.float64], measured: Sequence[dict[str, float]], tolerance_mm: float) -> Consensus:
    """Find the focus of a sweep.

    Args:
        wd_mm: working distances of the frames, float64 (N,), in any order.
        measured: result of `measure` for each frame.
        tolerance_mm: largest accepted disagreement, and largest accepted standard error.

    Raises:
        CalibrationError: too few frames, a metric without a peak within the sweep, or no agreement.
    """
    if len(wd_mm) < _MIN_FRAMES:
        raise CalibrationError(f"{len(wd_mm)} usable frames are too few for a focus; {_MIN_FRAMES} are needed")
    peaks = {name: _peak(name, wd_mm, np.array([each[name] for each in measured])) for name in METRICS}
    places = [peak.wd_mm for peak in peaks.values()]
    disagreement_mm = max(places) - min(places)
    unsure = max(peaks.values(), key=lambda peak: peak.error_mm)
    if disagreement_mm > tolerance_mm or unsure.error_mm > tolerance_mm:
        told = ", ".join(f"{name} {peak.wd_mm:.4f}+-{peak.error_mm:.4f} mm" for name, peak in peaks.items())
        raise CalibrationError(
            f"no consensus about the focus: {told}; the tolerance is {tolerance_mm:.4f} mm. The field may be "
            "featureless: choose one with detail everywhere and set brightness and contrast well"
        )
    return Consensus(float(np.median(places)), disagreement_mm, peaks)


def coarse_peak(wd_mm: NDArray[np.float64], measured: Sequence[dict[str, float]]) -> float:
    """Rough focus: median over the metrics of the working distance in mm with the largest value.

    Raises:
        CalibrationError: the rough focus is at an end of the sweep, so that the focus may lie beyond.
    """
    best = [float(wd_mm[int(np.argmax([each[name] for each in measured]))]) for name in METRICS]
    middle = float(np.median(best))
    if middle in (float(wd_mm.min()), float(wd_mm.max())):
        raise CalibrationError(
            f"the sharpest frame is at an end of the sweep {wd_mm.min():.4f}..{wd_mm.max():.4f} mm: focus roughly by "
            "hand, or sweep farther (--reach)"
        )
    return middle


def _peak(name: str, wd_mm: NDArray[np.float64], value: NDArray[np.float64]) -> Peak:
    """Fit the Lorentzian `A / (1 + ((wd - c) / w)**2)` near the largest value, as a parabola through the reciprocals.

    The window is centred on the fitted peak and the fit repeated until the peak stays. With an asymmetric window, a
    curve that is not a Lorentzian would pull the peak to the side with more frames.
    """
    if not value.max() > 0.0:
        raise CalibrationError(f"{name} is zero over the whole sweep: every frame is flat")
    order = np.argsort(wd_mm, kind="stable")
    wd_mm, value = wd_mm[order], value[order]
    best = int(np.argmax(value))
    # Bound the reciprocal where the metric vanishes, far from the peak.
    relative = np.maximum(value / value[best], 1e-3)
    reach_mm = _half_width(wd_mm, relative, best)
    centre_mm, error_mm = float(wd_mm[best]), float("inf")
    for _ in range(_ROUNDS):
        chosen = np.abs(wd_mm - centre_mm) <= reach_mm
        if np.count_nonzero(chosen) < _MIN_FRAMES - 1:
            chosen = np.isin(np.arange(len(wd_mm)), np.argsort(np.abs(wd_mm - centre_mm))[: _MIN_FRAMES - 1])
        fitted = _vertex((wd_mm[chosen] - centre_mm) / reach_mm, 1.0 / relative[chosen], relative[chosen] ** 2)
        if fitted is None:
            raise CalibrationError(
                f"{name} has no peak within the sweep; a featureless field, or the focus lies outside "
                f"{wd_mm[0]:.4f}..{wd_mm[-1]:.4f} mm"
            )
        shift_mm, error_mm = fitted[0] * reach_mm, fitted[1] * reach_mm
        # Limit the shift to the window, so that one outlier cannot move the fit out of the sweep.
        centre_mm += float(np.clip(shift_mm, -reach_mm, reach_mm))
        centre_mm = float(np.clip(centre_mm, wd_mm[0], wd_mm[-1]))
        if abs(shift_mm) < 1e-3 * reach_mm:
            break
    return Peak(centre_mm, error_mm)


def _half_width(wd_mm: NDArray[np.float64], relative: NDArray[np.float64], best: int) -> float:
    """Distance in mm from the peak to where the curve falls below `_NEAR_PEAK` of it, on the wider side."""
    low = np.flatnonzero(relative[: best + 1] < _NEAR_PEAK)
    high = np.flatnonzero(relative[best:] < _NEAR_PEAK)
    left_mm = wd_mm[best] - wd_mm[low[-1]] if low.size else wd_mm[best] - wd_mm[0]
    right_mm = wd_mm[best + high[0]] - wd_mm[best] if high.size else wd_mm[-1] - wd_mm[best]
    return float(max(left_mm, right_mm))


def _vertex(
    place: NDArray[np.float64], value: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[float, float] | None:
    """Fit a weighted parabola; return its vertex and the standard error, or None if it has no minimum."""
    terms = np.stack([np.ones_like(place), place, place**2], axis=1)
    normal = terms.T @ (weight[:, None] * terms)
    try:
        inverse = np.linalg.inv(normal)
    except np.linalg.LinAlgError:
        return None
    a, b, c = inverse @ (terms.T @ (weight * value))
    if not c > 0.0:
        return None
    rest = value - terms @ np.array([a, b, c])
    scatter = float((weight * rest**2).sum()) / max(len(place) - 3, 1)
    slope = np.array([0.0, -0.5 / c, 0.5 * b / c**2])
    return float(-0.5 * b / c), float(np.sqrt(slope @ (scatter * inverse) @ slope))
