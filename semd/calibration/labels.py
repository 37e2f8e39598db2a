"""Labels of a sweep's frames, computed from the distance to its focus by the experts' scale."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from semd.domain.expert_scale import focus_quality
from semd.domain.limits import Optics

_FWHM_TO_SIGMA = 1.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))
# The disc with the second moment of a Gaussian is four standard deviations wide.
_SIGMA_TO_DISC = 4.0
_LEAST_SIGNAL_GREY = 1.0
_AVERAGED_SIGMA_PX = 4.0


def least_blur_px(spot_nm: float, pixel_mm: float) -> float:
    """Blur-disc diameter in pixels of a frame in focus, for a spot of `spot_nm` (full width at half maximum)."""
    return _SIGMA_TO_DISC * _FWHM_TO_SIGMA * spot_nm * 1e-6 / pixel_mm


def defocus_blur_px(defocus_mm: float, optics: Optics, pixel_mm: float, least_px: float) -> float:
    """Effective blur diameter in pixels: defocus disc `2 alpha |dWD| / pixel` and `least_px` added in quadrature."""
    disc_px = 2.0 * optics.aperture_half_angle_mrad * 1e-3 * abs(defocus_mm) / pixel_mm
    return math.hypot(disc_px, least_px)


def defocus_score(defocus_mm: float, magnification: float, optics: Optics, pixel_mm: float, least_px: float) -> float:
    """Score 1..10 on the experts' scale of a frame at a distance from focus."""
    return focus_quality(defocus_blur_px(defocus_mm, optics, pixel_mm, least_px), magnification)


def is_recognisable(image: NDArray[np.uint8]) -> bool:
    """Return True if a smoothed frame, uint8 (H, W), varies by at least a grey level.

    The label of a frame is meaningful only while the frame shows any detail.
    """
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), _AVERAGED_SIGMA_PX)
    return float(smooth.std()) >= _LEAST_SIGNAL_GREY
