"""From a frame to what the network takes: the centre crop, on a fixed scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semd.errors import ImageSizeError

CROP_HEIGHT_PX = 240
CROP_WIDTH_PX = 320
# Mean and spread of ordinary frames on the scale 0..1. Constants, not the frame's own: the network must see
# white as white.
MEAN = 0.45
SPREAD = 0.25


def centre_crop(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle 240x320 of a grey frame, a view.

    Args:
        image: uint8 (H, W) with H >= 240 and W >= 320.

    Raises:
        ImageSizeError: the frame is smaller, or not a grey picture.
    """
    if image.ndim != 2:
        raise ImageSizeError(f"the scoring machine takes a grey picture (height, width), not the shape {image.shape}")
    height, width = image.shape
    if height < CROP_HEIGHT_PX or width < CROP_WIDTH_PX:
        raise ImageSizeError(
            f"the frame is {width}x{height}, the scoring machine needs {CROP_WIDTH_PX}x{CROP_HEIGHT_PX}"
        )
    top, left = (height - CROP_HEIGHT_PX) // 2, (width - CROP_WIDTH_PX) // 2
    return image[top : top + CROP_HEIGHT_PX, left : left + CROP_WIDTH_PX]


def standardise(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey levels 0..255 of any shape on the network's scale, float32 of the same shape."""
    return np.asarray(grey * np.float32(1.0 / (255.0 * SPREAD)) - np.float32(MEAN / SPREAD), dtype=np.float32)
