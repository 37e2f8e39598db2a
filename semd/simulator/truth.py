"""Ground truth of a simulated frame: expert score and suitability of brightness and contrast.

The rule reproduces the scores in the authors' public test log: a focus score that tolerates more blur at high
magnification and does not depend on ordinary brightness.

1. Focus quality `q` from the effective blur diameter: `semd.domain.expert_scale`.
2. Recognisability `r` in 0..1. The blurred field after clipping must have a standard deviation of about one grey level
   and exceed the noise averaged over the blur disc. The field in focus must have detail above the noise as well.
3. `true_score = q * r`, `label = round(true_score)`; 0 only if nothing can be recognised.

Brightness, contrast and noise affect the score only through step 2. `brightness_contrast_ok` rates them separately.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from semd.domain.expert_scale import focus_quality
from semd.simulator.detector import FULL_SCALE, Detector
from semd.simulator.texture import Picture

_WIDEST_AVERAGING_PX = 48.0
# Size over which the eye averages noise at fine detail.
_FINEST_AVERAGING_PX = 5.0
_DETAIL_PX = 40
_SIGNAL_RAMP_GREY = (0.6, 1.4)
_SNR_RAMP = (0.5, 1.5)


@dataclass(frozen=True, slots=True)
class Truth:
    """Ground truth of a frame.

    Attributes:
        true_score: continuous expert score, 0..10.
        label: the integer an expert would write, 0..10.
        quality: focus quality, 1..10, independent of recognisability.
        recognisability: 0 (nothing to see) to 1.
        blur_px: effective blur diameter in pixels.
        wd_error_mm: working distance minus the focused one, signed.
        brightness_contrast_ok: True if brightness and contrast suit the field.
    """

    true_score: float
    label: int
    quality: float
    recognisability: float
    blur_px: float
    wd_error_mm: float
    brightness_contrast_ok: bool


def recognisability(
    signal: Picture, focused: Picture, detector: Detector, brightness: float, contrast: float, blur_px: float
) -> float:
    """Recognisability of the frame, 0..1 (step 2 of the rule).

    Args:
        signal: blurred, noise-free emission of the frame, float32 (480, 640).
        focused: the same emission in focus, float32 (480, 640).
        detector: the detector.
        brightness: brightness setting.
        contrast: contrast setting.
        blur_px: effective blur diameter in pixels; the eye averages noise over this disc.
    """
    # Every other pixel suffices for standard deviations.
    thin, thin_focused = signal[::2, ::2], focused[::2, ::2]
    ideal = detector.ideal(thin, brightness, contrast)
    open_pixels = (ideal > 0.0) & (ideal < FULL_SCALE)
    variance = np.where(open_pixels, detector.noise_sigma(thin, contrast) ** 2, 0.0)
    noise_grey = math.sqrt(float(variance.mean()) + 1.0 / 12.0)
    signal_grey = float(np.clip(ideal, 0.0, FULL_SCALE).std())
    snr = signal_grey * _disc_side_px(min(max(blur_px, 2.0), _WIDEST_AVERAGING_PX)) / noise_grey
    # A hollow with a smooth gradient has contrast, but no detail that exceeds its noise and could be in focus.
    shown = np.clip(detector.ideal(thin_focused, brightness, contrast), 0.0, FULL_SCALE)
    smooth = cv2.blur(shown, (_DETAIL_PX // 2, _DETAIL_PX // 2))
    detail_grey = float((shown - smooth).std())
    detail_snr = detail_grey * _disc_side_px(_FINEST_AVERAGING_PX) / noise_grey
    return min(
        _ramp(signal_grey, *_SIGNAL_RAMP_GREY) * _ramp(snr, *_SNR_RAMP),
        _ramp(detail_grey, *_SIGNAL_RAMP_GREY) * _ramp(detail_snr, *_SNR_RAMP),
    )


def brightness_contrast_ok(focused: Picture, detector: Detector, brightness: float, contrast: float) -> bool:
    """Return True if brightness and contrast suit the field, by its noise-free rendering in focus.

    Conditions: at most 3 % of the pixels clipped, mean level within 60..195, and a span from the 2nd to the 98th
    percentile of at least 80 grey levels and 3 times the noise.

    Args:
        focused: in-focus, noise-free emission of the frame, float32 (480, 640).
        detector: the detector.
        brightness: brightness setting.
        contrast: contrast setting.
    """
    thin = focused[::2, ::2]
    ideal = detector.ideal(thin, brightness, contrast)
    clipped = float(((ideal <= 0.0) | (ideal >= FULL_SCALE)).mean())
    shown = np.clip(ideal, 0.0, FULL_SCALE)
    low, high = np.percentile(shown, (2.0, 98.0))
    spread = float(high - low)
    noise_grey = float(np.sqrt((detector.noise_sigma(thin, contrast) ** 2).mean()))
    return clipped <= 0.03 and 60.0 <= float(shown.mean()) <= 195.0 and spread >= 80.0 and spread >= 3.0 * noise_grey


def ground_truth(
    signal: Picture,
    focused: Picture,
    detector: Detector,
    magnification: float,
    brightness: float,
    contrast: float,
    blur_px: float,
    wd_error_mm: float,
) -> Truth:
    """Compute the ground truth of one frame.

    Args:
        signal: blurred, noise-free emission of the frame, float32 (480, 640).
        focused: the same emission in focus, float32 (480, 640).
        detector: the detector.
        magnification: magnification.
        brightness: brightness setting.
        contrast: contrast setting.
        blur_px: effective blur diameter in pixels.
        wd_error_mm: working distance minus the focused one.
    """
    quality = focus_quality(blur_px, magnification)
    visible = recognisability(signal, focused, detector, brightness, contrast, blur_px)
    score = quality * visible
    return Truth(
        true_score=score,
        label=round(score),
        quality=quality,
        recognisability=visible,
        blur_px=blur_px,
        wd_error_mm=wd_error_mm,
        brightness_contrast_ok=brightness_contrast_ok(focused, detector, brightness, contrast),
    )


def _disc_side_px(diameter_px: float) -> float:
    """Side of the square with the area of a disc; an average over the disc lowers the noise by this factor."""
    return math.sqrt(0.25 * math.pi) * diameter_px


def _ramp(value: float, low: float, high: float) -> float:
    """Linear ramp: 0 below `low`, 1 above `high`."""
    return min(max((value - low) / (high - low), 0.0), 1.0)
