"""Faults of a frame that can be seen without the network: nothing in it, clipping, charging stripes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from semd.domain.frame_score import QualityFlag

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Chosen on training frames of ordinary exposure: they flag less than 1 in 1000, 1 in 1000, 1 in 300 of them.
LEAST_STRUCTURE_GREY = 1.0
# Below this an ordinary frame is not met once in a thousand, and nearly all with nothing in them lie there.
_UNRECOGNISABLE_GREY = 0.6
MOST_CLIPPED = 0.6
MOST_STRIPED_GREY = 6.0
_BOX_PX = 16
_STRIP_PX = 40
# A grid that lies along the scan shows as much in both directions, but never the same.
_CROSSWISE_WEIGHT = 3.0
_SLOW_LINES = 49
_GROUP_LINES = 8
_PART_LINES = 24
# Stripes fill a frame from top to bottom: no less than a third of their amplitude is met in its typical part.
_TYPICAL_SHARE = 1.0 / 3.0


@dataclass(frozen=True, slots=True)
class Faults:
    """Faults of a frame, measured without the network.

    Attributes:
        structure_grey: standard deviation in grey levels of what is in the frame.
        clipped_share: share of the pixels that are black or white.
        stripe_grey: amplitude in grey levels of stripes along the scan lines.
    """

    structure_grey: float
    clipped_share: float
    stripe_grey: float

    @property
    def is_empty(self) -> bool:
        """True where nothing stands out that an eye could recognise: an expert's 0."""
        return self.structure_grey < _UNRECOGNISABLE_GREY

    @property
    def flags(self) -> frozenset[QualityFlag]:
        """Quality flags that follow from the faults."""
        found = {
            QualityFlag.BLANK: self.structure_grey < LEAST_STRUCTURE_GREY,
            QualityFlag.SATURATED: self.clipped_share > MOST_CLIPPED,
            QualityFlag.STRIPED: self.stripe_grey > MOST_STRIPED_GREY,
        }
        return frozenset(doubt for doubt, is_there in found.items() if is_there)


def find_faults(image: NDArray[np.uint8]) -> Faults:
    """Measure the faults of a grey frame, uint8 (H, W), H and W at least 240."""
    return Faults(structure_grey(image), clipped_share(image), stripe_grey(image))


def structure_grey(image: NDArray[np.uint8]) -> float:
    """Standard deviation in grey levels of what is in the frame, without noise and without stripes.

    Noise does not agree from one scan line to the next, a picture does: the covariance of the even and the odd
    lines, averaged in boxes of 16 columns and 32 lines, is the picture's alone. What whole lines share is taken off.
    """
    lines, columns = image.shape[0] // (2 * _BOX_PX), image.shape[1] // _BOX_PX
    grey = image[: 2 * _BOX_PX * lines, : _BOX_PX * columns].astype(np.float32)
    even, odd = (cv2.resize(grey[first::2], (columns, lines), interpolation=cv2.INTER_AREA) for first in (0, 1))
    even, odd = (boxes - np.median(boxes, axis=1, keepdims=True) for boxes in (even, odd))
    return math.sqrt(max(float(((even - even.mean()) * (odd - odd.mean())).mean()), 0.0))


def clipped_share(image: NDArray[np.uint8]) -> float:
    """Share of the pixels that are black or white."""
    return float(np.count_nonzero((image == 0) | (image == 255))) / image.size


def stripe_grey(image: NDArray[np.uint8]) -> float:
    """Amplitude in grey levels of stripes along the scan lines, as charging draws them.

    A stripe shifts a whole line: strips of the frame that no object spans brighten and darken together, line by
    line. An object that does span them, such as a grid's bar, has no reason to lie along the lines alone; a multiple
    of what the same measure finds along the columns is taken off. Where there is but one bar, its edges stand in few
    lines: what most parts of the frame do not show counts for little. Changes slower than about 50 lines do not
    count: large objects make them too.
    """
    height, width = image.shape
    grey = image.astype(np.float32)
    columns, lines = width // _STRIP_PX, height // _STRIP_PX
    left, top = (width - columns * _STRIP_PX) // 2, (height - lines * _STRIP_PX) // 2
    upright = cv2.resize(grey[:, left : left + columns * _STRIP_PX], (columns, height), interpolation=cv2.INTER_AREA)
    level = cv2.resize(grey[top : top + lines * _STRIP_PX], (width, lines), interpolation=cv2.INTER_AREA)
    along_lines, along_columns = _shared(upright), _shared(np.ascontiguousarray(level.T))
    over_all = _left(along_lines.over_all, _CROSSWISE_WEIGHT * along_columns.over_all)
    return min(over_all, _left(along_lines.typical, along_columns.typical) / _TYPICAL_SHARE)


def stripes(image: NDArray[np.uint8]) -> tuple[float, ...]:
    """Mean grey level of every eight scan lines, uint8 (H, W), from the top; changes slower than stripes taken off."""
    lines = image.mean(axis=1, dtype=np.float32)[:, None]
    fast = lines - cv2.blur(lines, (1, _SLOW_LINES), borderType=cv2.BORDER_REFLECT_101)
    groups = fast[: len(fast) // _GROUP_LINES * _GROUP_LINES].reshape(-1, _GROUP_LINES).mean(axis=1)
    return tuple(round(float(level), 2) for level in groups)


@dataclass(frozen=True, slots=True)
class _Shared:
    """Variances that distant strips have in common: over their whole length, and in the typical part of it."""

    over_all: float
    typical: float


def _shared(strips: NDArray[Any]) -> _Shared:
    """Common part of distant strips, with slow changes subtracted.

    Args:
        strips: means across each strip, float32 (length, strips).
    """
    length, count = strips.shape
    fast = strips - cv2.blur(strips, (1, _SLOW_LINES), borderType=cv2.BORDER_REFLECT_101)
    parts = fast[: length // _PART_LINES * _PART_LINES].reshape(-1, _PART_LINES, count)
    apart = np.abs(np.subtract.outer(np.arange(count), np.arange(count))) >= 3 * count // 8
    # The median: an object that spans some strips by chance does not count.
    over_all = float(np.median((fast.T @ fast / length)[apart]))
    by_part = np.median((parts.transpose(0, 2, 1) @ parts / _PART_LINES)[:, apart], axis=1)
    return _Shared(over_all, float(np.median(by_part)))


def _left(variance: float, taken_off: float) -> float:
    """Square root of what is left of a variance when another, if there is any, is taken off."""
    return math.sqrt(max(variance - max(taken_off, 0.0), 0.0))
