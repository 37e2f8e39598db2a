"""A real micrograph as the sample: what it shows becomes the emission that the virtual microscope scans."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from semd.errors import ConfigError, FrameError
from semd.inbox.image import FrameSize, decode_image
from semd.simulator.field import MARGIN_PX, Field
from semd.simulator.optics import FRAME_HEIGHT_PX, FRAME_WIDTH_PX, pixel_nm

_SIZE = FrameSize(FRAME_WIDTH_PX + 2 * MARGIN_PX, FRAME_HEIGHT_PX + 2 * MARGIN_PX)
_QUIET_SIGMA_PX = 1.0


def micrograph_field(path: Path, magnification: float, seed: int) -> Field:
    """A micrograph, mirrored or not, as a field of view at some magnification.

    The picture's own noise would be sharp at any focus; a light blur takes most of it away.

    Args:
        path: a picture in focus, at least 768 x 608 pixels; a larger one is scaled down, and what lies below the
            frame's proportions, often a bar of data, is cut off.
        magnification: magnification it is said to have been taken at.
        seed: of the mirroring.

    Raises:
        ConfigError: the file cannot be read, is no picture, or is too small.
    """
    try:
        picture = decode_image(path.read_bytes(), path.suffix.lower(), _SIZE)
    except (OSError, FrameError) as error:
        raise ConfigError(f"{path}: cannot serve as a sample: {error}") from error
    quiet = cv2.GaussianBlur(picture.astype(np.float32) / np.float32(255.0), (0, 0), _QUIET_SIGMA_PX)
    turns = np.random.default_rng([seed, round(magnification), 7004]).integers(0, 2, 2)
    turned = quiet[:: 1 - 2 * int(turns[0]), :: 1 - 2 * int(turns[1])]
    return Field(np.ascontiguousarray(turned, dtype=np.float32), "micrograph", magnification, pixel_nm(magnification))
