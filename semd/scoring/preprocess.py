"""Network input from a frame: its centre, on a fixed scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semd.errors import ImageSizeError

LEAST_HEIGHT_PX = 240
LEAST_WIDTH_PX = 320
"""The papers' crop: smaller frames are not judged."""
# Mean and spread of ordinary frames on the scale 0..1. Constants, not the frame's own: the network must see
# white as white.
MEAN = 0.45
SPREAD = 0.25


def centre_crop(image: NDArray[np.uint8], most_height_px: int, most_width_px: int) -> NDArray[np.uint8]:
    """The middle of a grey frame, a view with even sides.

    Args:
        image: uint8 (H, W) with H >= 240 and W >= 320.
        most_height_px: height of the crop, even; less where the frame is smaller.
        most_width_px: width likewise.

    Raises:
        ImageSizeError: the frame is smaller, or not a grey picture.
    """
    if image.ndim != 2:
        raise ImageSizeError(f"the scoring machine takes a grey picture (height, width), not the shape {image.shape}")
    height, width = image.shape
    if height < LEAST_HEIGHT_PX or width < LEAST_WIDTH_PX:
        raise ImageSizeError(
            f"the frame is {width}x{height}, the scoring machine needs {LEAST_WIDTH_PX}x{LEAST_HEIGHT_PX}"
        )
    crop_height, crop_width = min(most_height_px, height - height % 2), min(most_width_px, width - width % 2)
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return image[top : top + crop_height, left : left + crop_width]


def standardise(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey levels 0..255 of any shape on the network's scale, float32 of the same shape."""
    return np.asarray(grey * np.float32(1.0 / (255.0 * SPREAD)) - np.float32(MEAN / SPREAD), dtype=np.float32)
