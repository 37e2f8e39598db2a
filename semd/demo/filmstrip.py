"""Filmstrip of a run: its frames side by side in one picture, with working distance and score below each."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.figure import Figure

from semd.demo.demo import DemoStep

_CROP_ROWS, _CROP_COLUMNS = 300, 400
_FRAME_INCHES, _CAPTION_INCHES, _DPI = 2.0, 0.62, 150
_INK, _PALE = "#1f2933", "#52606d"


def render_filmstrip(steps: Sequence[DemoStep], most_frames: int = 5) -> bytes:
    """Render the frames of a run as one JPEG.

    Each picture is the middle 400x300 pixels of its frame at native resolution, so that blur shows as it is.

    Args:
        steps: frames of the run with their answers, oldest first; at least one.
        most_frames: of a longer run the first and the last are shown, and frames evenly spaced between them.

    Returns:
        The bytes of the JPEG.
    """
    shown = _evenly_spaced(steps, most_frames)
    height_inches = _FRAME_INCHES * _CROP_ROWS / _CROP_COLUMNS + _CAPTION_INCHES
    figure = Figure(figsize=(_FRAME_INCHES * len(shown), height_inches), dpi=_DPI, facecolor="white")
    caption_share = _CAPTION_INCHES / height_inches
    for column, step in enumerate(shown):
        axes = figure.add_axes((column / len(shown), caption_share, 0.98 / len(shown), 1.0 - caption_share))
        axes.set_axis_off()
        rows, columns = step.scan.image.shape
        top, left = (rows - _CROP_ROWS) // 2, (columns - _CROP_COLUMNS) // 2
        crop = step.scan.image[top : top + _CROP_ROWS, left : left + _CROP_COLUMNS]
        axes.imshow(crop, cmap="gray", vmin=0, vmax=255, interpolation="lanczos", aspect="auto")
        middle = (column + 0.49) / len(shown)
        score = f"frame {step.number}: score {step.action.score:.1f}"
        figure.text(middle, 0.66 * caption_share, score, ha="center", va="center", fontsize=10, color=_INK)
        wd = f"WD {step.scan.wd_mm:.3f} mm, {step.action.status}"
        figure.text(middle, 0.26 * caption_share, wd, ha="center", va="center", fontsize=8, color=_PALE)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", pil_kwargs={"quality": 85})
    return buffer.getvalue()


def _evenly_spaced(steps: Sequence[DemoStep], most: int) -> list[DemoStep]:
    """Return the first, the last and frames evenly spaced between them."""
    if len(steps) <= most:
        return list(steps)
    last = len(steps) - 1
    return [steps[round(index * last / (most - 1))] for index in range(most)]
