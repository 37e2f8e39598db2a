"""Real micrograph as a sample: its grey levels become the emission that the virtual microscope scans."""

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
    """Load a micrograph as a field of view, mirrored at random along each axis.

    A Gaussian blur of 1 pixel removes most of the noise of the micrograph, which would stay sharp at any focus.

    Args:
        path: picture in focus, at least 768 x 608 pixels. A larger one is scaled down, and the part below the aspect
            ratio of the frame, often a data bar, is cut off.
        magnification: magnification assigned to the field.
        seed: seed of the mirroring.

    Raises:
        ConfigError: the file cannot be read, is not a picture, or is too small.
    """
    try:
        picture = decode_image(path.read_bytes(), path.suffix.lower(), _SIZE)
    except (OSError, FrameError) as error:
        raise ConfigError(f"{path}: cannot serve as a sample: {error}") from error
    quiet = cv2.GaussianBlur(picture.astype(np.float32) / np.float32(255.0), (0, 0), _QUIET_SIGMA_PX)
    turns = np.random.default_rng([seed, round(magnification), 7004]).integers(0, 2, 2)
    turned = quiet[:: 1 - 2 * int(turns[0]), :: 1 - 2 * int(turns[1])]
    return Field(np.ascontiguousarray(turned, dtype=np.float32), "micrograph", magnification, pixel_nm(magnification))
