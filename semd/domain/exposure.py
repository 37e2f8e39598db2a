"""Exposure of a frame: clipping, mean level and contrast, and the range that DONE requires.

The score is a focus score: experts give a darker or brighter frame of a field the same mark. So DONE also requires an
exposure that loses nothing: little clipping, a medium level and enough contrast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Exposure:
    """Use of the grey scale by a frame.

    Attributes:
        black: fraction of pixels at 0.
        white: fraction of pixels at 255.
        level: mean grey value, 0..255.
        contrast: distance of the 2nd and the 98th percentile in grey values, 0..255.
    """

    black: float
    white: float
    level: float
    contrast: float

    @property
    def is_flat(self) -> bool:
        """True where nearly all pixels share one value: nothing was scanned, or all of it is clipped."""
        return self.contrast == 0.0


@dataclass(frozen=True, slots=True)
class ExposureRange:
    """The good range of `Exposure`.

    The range is narrower than the simulator's ground truth (3 % clipped, level 60..195, contrast 80): noise widens the
    measured contrast, and blur hides clipping that shows in focus.

    Attributes:
        max_clipped: largest fraction of black and white pixels.
        min_level: lowest mean grey value.
        max_level: highest mean grey value.
        min_contrast: least distance of the 2nd and the 98th percentile in grey values.
    """

    max_clipped: float = 0.02
    min_level: float = 62.0
    max_level: float = 193.0
    min_contrast: float = 105.0

    def accepts(self, exposure: Exposure) -> bool:
        """Return True if the frame lies within the good range in every respect."""
        return self.defect(exposure) == 0.0

    def defect(self, exposure: Exposure) -> float:
        """Distance from the good range: 0 inside, growing to about 3 for an all-black or all-white frame."""
        clipped = max(0.0, exposure.black + exposure.white - self.max_clipped)
        level = max(0.0, self.min_level - exposure.level, exposure.level - self.max_level) / 60.0
        contrast = max(0.0, 1.0 - exposure.contrast / self.min_contrast)
        return min(1.0, 4.0 * clipped) + min(1.0, level) + contrast


def measure_exposure(histogram: NDArray[np.int64]) -> Exposure:
    """Measure the exposure from the counts of the 256 grey values, shape (256,)."""
    total = int(histogram.sum())
    cumulated = np.cumsum(histogram)
    low, high = np.searchsorted(cumulated, [0.02 * total, 0.98 * total])
    return Exposure(
        black=float(histogram[0]) / total,
        white=float(histogram[255]) / total,
        level=float(histogram @ np.arange(256)) / total,
        contrast=float(high - low),
    )
