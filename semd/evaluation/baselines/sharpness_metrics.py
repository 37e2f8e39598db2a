"""Sharpness metrics that the papers compare with, and the best monotone map from a metric to a score.

A metric has no scale of its own. It is mapped to a score by isotonic regression on training frames of the same
magnification, which is the best increasing map on these frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from semd.domain.features import grey_histogram, measure_features

_NARROW_PX, _WIDE_PX = 4.0, 8.0


def variance_metric(image: NDArray[np.uint8]) -> float:
    """VAR of equation (2): mean square deviation of the grey levels, uint8 (H, W)."""
    return measure_features(image, grey_histogram(image)).var


def gradient_metric(image: NDArray[np.uint8]) -> float:
    """GRD of equation (2) per pixel: mean absolute difference of neighbours along rows and columns, uint8 (H, W)."""
    features = measure_features(image, grey_histogram(image))
    return features.grd / features.pixels


def band_pass_metric(image: NDArray[np.uint8]) -> float:
    """`var(G4 - G8) / var(G4)` (G: Gaussian blur, standard deviation in pixels), uint8 (H, W); 0 for a flat frame.

    Computed at half resolution, since both blurs remove all higher frequencies.
    """
    height, width = image.shape
    half = cv2.resize(image.astype(np.float32), (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    narrow, wide = (cv2.GaussianBlur(half, (0, 0), sigma_px / 2.0) for sigma_px in (_NARROW_PX, _WIDE_PX))
    whole = float(narrow.var())
    return float((narrow - wide).var()) / whole if whole > 0.0 else 0.0


Metric = Callable[[NDArray[np.uint8]], float]
METRICS: dict[str, Metric] = {
    "absolute variance metric": variance_metric,
    "gradient metric": gradient_metric,
    "band-pass metric": band_pass_metric,
}


@dataclass(frozen=True, slots=True)
class MonotoneMap:
    """Increasing, piecewise linear map from a metric to a score.

    Attributes:
        metric: knots in ascending order, float64 (P,).
        score: scores at the knots, in ascending order, float64 (P,).
    """

    metric: NDArray[np.float64]
    score: NDArray[np.float64]

    def __call__(self, metric: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map metric values, float64 (N,), to scores, float64 (N,); constant beyond the outermost knots."""
        return np.interp(metric, self.metric, self.score)


def fit_monotone(metric: NDArray[np.float64], score: NDArray[np.float64]) -> MonotoneMap:
    """Fit an increasing map by isotonic regression (pool adjacent violators), linear between the centres of its steps.

    Args:
        metric: metric values, float64 (N,), N at least 1.
        score: scores, float64 (N,).
    """
    place, of = np.unique(metric, return_inverse=True)
    count = np.bincount(of).astype(np.float64)
    # Blocks of (weight, mean metric, mean score); a block that does not increase is merged with the one before.
    blocks: list[tuple[float, float, float]] = []
    for entry in zip(count, place, np.bincount(of, score) / count, strict=True):
        block = (float(entry[0]), float(entry[1]), float(entry[2]))
        while blocks and blocks[-1][2] >= block[2]:
            block = _merged(blocks.pop(), block)
        blocks.append(block)
    table = np.array(blocks)
    return MonotoneMap(table[:, 1], table[:, 2])


def _merged(one: tuple[float, float, float], other: tuple[float, float, float]) -> tuple[float, float, float]:
    weight = one[0] + other[0]
    return (
        weight,
        (one[0] * one[1] + other[0] * other[1]) / weight,
        (one[0] * one[2] + other[0] * other[2]) / weight,
    )
