"""The experts' scale: points that a blur costs at a magnification.

The scale is ours: the papers publish marks, not a law. It grows more lenient with magnification, because a x10000 frame
that is visibly soft still earned an 8. With the effective blur diameter `b` in pixels, the blur that experts tolerate,
`b0 = 2 sqrt(M / 500)`, and the blur at which a field is just recognisable, `b1 = 62 (M / 500)**0.25`:

    q = 10 - 9 log2(1 + (b / b0)**2) / log2(1 + (b1 / b0)**2), not below 1.

`b1` grows little with M: the objects that fill a frame are about equally large on the screen at any magnification, and
a disc much wider than they are leaves a plain grey frame.
"""

from __future__ import annotations

import math

_LENIENT_BLUR_PX = 2.0
_WORST_BLUR_PX = 62.0
_BASE_MAGNIFICATION = 500.0


def lenient_blur_px(magnification: float) -> float:
    """Blur-disc diameter in pixels that experts tolerate, `b0 = 2 * sqrt(M / 500)`; it grows with M."""
    return _LENIENT_BLUR_PX * math.sqrt(magnification / _BASE_MAGNIFICATION)


def worst_blur_px(magnification: float) -> float:
    """Blur-disc diameter `b1` in pixels at which a field is just recognisable: 62 at x500, 131 at x10000."""
    return float(_WORST_BLUR_PX * (magnification / _BASE_MAGNIFICATION) ** 0.25)


def quality_slope(magnification: float) -> float:
    """Points of focus quality lost per unit of `log2(1 + (b / b0)**2)`."""
    ratio = worst_blur_px(magnification) / lenient_blur_px(magnification)
    return 9.0 / math.log2(1.0 + ratio * ratio)


def focus_quality(blur_px: float, magnification: float) -> float:
    """Focus quality 1..10 of a frame whose effective blur diameter is `blur_px`."""
    relative = blur_px / lenient_blur_px(magnification)
    return max(1.0, 10.0 - quality_slope(magnification) * math.log2(1.0 + relative * relative))


def blur_for_quality(quality: float, magnification: float) -> float:
    """Effective blur diameter in pixels that gives `quality` (1..10), the inverse of `focus_quality`."""
    octaves = (10.0 - quality) / quality_slope(magnification)
    return lenient_blur_px(magnification) * math.sqrt(max(2.0**octaves - 1.0, 0.0))
