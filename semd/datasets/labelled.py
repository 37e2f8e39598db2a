"""Labelled frames of one field, with everything about optics and detector drawn at random.

The wanted quality chooses the blur, so that labels come out equally frequent; the label itself is the rule of
`truth.py` applied to what came out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import cv2
import numpy as np

from semd.domain.expert_scale import blur_for_quality, lenient_blur_px, worst_blur_px
from semd.simulator.detector import Detector, Frame
from semd.simulator.field import Field, Sample, crop_margin, make_field
from semd.simulator.grid import HollowPolicy
from semd.simulator.optics import Blur, ElectronOptics
from semd.simulator.texture import Picture
from semd.simulator.truth import Truth, ground_truth

EmptyFrameKind = Literal["noise", "white", "black"]
Variant = Literal["normal", "dark", "bright", "flat", "wide"] | EmptyFrameKind
_ORDINARY: tuple[Variant, ...] = ("normal", "dark", "bright", "flat", "wide")
_ORDINARY_SHARES = (0.44, 0.16, 0.16, 0.09, 0.15)
_STAGE_WD_MM = (6.0, 16.0)
# Of the scale's last blur: what the far end of a run's window comes to in a column with a wide aperture.
_FARTHEST = 4.0
# A smoothed frame is often one of a slow scan, or the mean of many: up to so many times the electrons.
_MOST_AVERAGED = 20.0
_ZERO: tuple[EmptyFrameKind, ...] = ("noise", "white", "black")


@dataclass(frozen=True, slots=True)
class LabelledFrame:
    """One frame and its ground truth.

    Attributes:
        image: uint8 (480, 640).
        truth: ground truth.
        variant: exposure variant.
        focus_wd_mm: working distance at which the field is in focus: the stage's height.
    """

    image: Frame
    truth: Truth
    variant: Variant
    focus_wd_mm: float


def random_blur(rng: np.random.Generator, effective_px: float, magnification: float) -> Blur:
    """A blur of the given effective diameter in pixels and a random shape: disc, ellipse, soft spot, rim."""
    soft = 1.0 if rng.uniform() < 0.15 else 0.5 * rng.uniform() ** 2
    # The spot never vanishes: even in focus it has the size of the source.
    least_px = 0.15 * lenient_blur_px(magnification) * rng.uniform()
    spot_px = min(max(math.sqrt(soft) * effective_px, least_px), effective_px)
    rim = float(rng.uniform(-0.5, 0.7))
    disc_square = (effective_px**2 - spot_px**2) / (1.0 + rim / 3.0)
    # Defocus d and astigmatism a: axes |d + a| and |d - a|, mean square d**2 + a**2.
    share = 0.4 * rng.uniform() ** 3
    defocus, astigmatism = math.sqrt(disc_square * (1.0 - share)), math.sqrt(disc_square * share)
    return Blur(
        major_px=abs(defocus + astigmatism),
        minor_px=abs(defocus - astigmatism),
        angle_rad=float(rng.uniform(0.0, math.pi)),
        spot_sigma_px=spot_px / 4.0,
        rim=rim,
    )


def far_blur(rng: np.random.Generator, magnification: float) -> Blur:
    """A blur beyond the scale's end: the disc of defocus, beside which spot and astigmatism are small."""
    wide_px = worst_blur_px(magnification) * _FARTHEST ** float(rng.uniform())
    rim = float(rng.uniform(-0.5, 0.7))
    disc_px = wide_px / math.sqrt(1.0 + rim / 3.0)
    astigmatism = float(rng.uniform(0.0, 0.15))
    return Blur(
        major_px=disc_px * (1.0 + astigmatism),
        minor_px=disc_px * (1.0 - astigmatism),
        angle_rad=float(rng.uniform(0.0, math.pi)),
        spot_sigma_px=0.25 * lenient_blur_px(magnification) * float(rng.uniform()),
        rim=rim,
    )


@dataclass(frozen=True, slots=True)
class RareFrameShares:
    """Shares of unusual frames.

    Attributes:
        zero_share: share of frames replaced by noise, white or black.
        far_share: share of the blurs that lie beyond the scale's end, whatever label was wanted: a run may begin
            where scores no longer differ.
        smoothed_share: share of the other blurs that befall the finished frame, wholly or in part, and smooth its noise
            with it, as an instrument's filter or a picture scaled down does.
    """

    zero_share: float = 0.02
    far_share: float = 0.0
    smoothed_share: float = 0.0


@dataclass(frozen=True, slots=True)
class _Look:
    """A field through one blur.

    Attributes:
        scanned: what the detector sees, float32 (480, 640).
        smoothing: blur of the finished frame, its noise included.
        signal: what of the field is left after both, float32 (480, 640).
        blur_px: effective diameter of both together.
        wd_error_mm: working distance minus the focused one.
        averaged: how many times the detector's electrons the frame has.
    """

    scanned: Picture
    smoothing: Blur | None
    signal: Picture
    blur_px: float
    wd_error_mm: float
    averaged: float = 1.0

    def digitise(self, detector: Detector, brightness: float, contrast: float, rng: np.random.Generator) -> Frame:
        """Scan the field into a frame, and smooth the frame if wanted."""
        patient = replace(detector, electrons=detector.electrons * self.averaged)
        frame = patient.digitise(self.scanned, brightness, contrast, rng)
        if self.smoothing is None:
            return frame
        smooth = self.smoothing.apply(frame.astype(np.float32))
        return np.asarray(np.clip(np.rint(smooth), 0.0, 255.0), dtype=np.uint8)


def random_detector(rng: np.random.Generator, focused: Picture) -> Detector:
    """A detector tuned to a field, with random dose and scan faults."""
    faulty = rng.uniform() < 0.35
    return Detector(
        brightness_optimum=float(rng.uniform(35.0, 65.0)),
        contrast_optimum=float(rng.uniform(35.0, 65.0)),
        electrons=float(np.exp(rng.uniform(np.log(50.0), np.log(3000.0)))),
        readout_grey=float(rng.uniform(0.3, 3.5)),
        smear=float(rng.uniform(0.0, 0.7)),
        jitter_px=float(rng.uniform(0.0, 0.8)) if faulty else 0.0,
        drift_px=float(rng.uniform(-4.0, 4.0)) if faulty else 0.0,
        charging_grey=float(rng.uniform(0.0, 5.0)) if rng.uniform() < 0.2 else 0.0,
    ).tuned_to(focused)


def labelled_frames(
    sample: Sample,
    magnification: float,
    seed: int,
    labels: list[int],
    hollow: HollowPolicy = "avoid",
    rare_shares: RareFrameShares = RareFrameShares(),
) -> list[LabelledFrame]:
    """Make frames of one field, one for each wanted label (1..10); the same arguments give the same frames.

    Successive frames with the same wanted label share their blur and differ in exposure only, like the fields
    that experts saw plain, dark and bright.

    Args:
        sample: kind of sample.
        magnification: magnification.
        seed: stands for the field, its detector and its frames.
        labels: wanted labels; an unrecognisable frame gets 0 instead.
        hollow: what to do about a grid's hollows.
        rare_shares: how often something out of the ordinary.
    """
    rng = np.random.default_rng([seed, round(magnification), 9001])
    field = make_field(sample, magnification, seed, hollow)
    focused = np.ascontiguousarray(crop_margin(field.emission))
    detector = random_detector(rng, focused)
    focus_wd_mm = float(rng.uniform(*_STAGE_WD_MM))
    frames: list[LabelledFrame] = []
    previous, look = 0, _Look(focused, None, focused, 0.0, 0.0)
    for label in labels:
        if label != previous:
            look = _random_look(rng, field, focus_wd_mm, label, rare_shares)
            previous = label
        if rng.uniform() < rare_shares.zero_share:
            frames.append(zero_frame(rng, detector, focused, magnification, focus_wd_mm))
            continue
        variant = _ORDINARY[int(rng.choice(len(_ORDINARY), p=_ORDINARY_SHARES))]
        if look.smoothing is not None:
            # What clips is another matter before smoothing than behind it: such frames are well exposed.
            variant = "normal"
        brightness, contrast = exposure_settings(rng, detector, variant)
        judge_at = partial(ground_truth, look.signal, focused, detector, magnification)
        truth = judge_at(brightness, contrast, look.blur_px, look.wd_error_mm)
        if truth.recognisability < 1.0 and rng.uniform() < 0.7:
            # Mostly a second try nearer the optimum: the unrecognisable stay rare.
            variant = "normal"
            brightness, contrast = exposure_settings(rng, detector, variant)
            truth = judge_at(brightness, contrast, look.blur_px, look.wd_error_mm)
        image = maybe_jpeg(rng, look.digitise(detector, brightness, contrast, rng))
        frames.append(LabelledFrame(image, truth, variant, focus_wd_mm))
    return frames


def _random_look(
    rng: np.random.Generator, field: Field, focus_wd_mm: float, label: int, rare_shares: RareFrameShares
) -> _Look:
    """Draw a blur that gives the field a wanted label."""
    quality = min(max(float(rng.uniform(label - 0.5, label + 0.5)), 1.0), 10.0)
    blur_px, magnification = blur_for_quality(quality, field.magnification), field.magnification
    smoothing, averaged = None, 1.0
    # Without rare_shares nothing is drawn for them: datasets made before come out as they did.
    if rare_shares.far_share > 0.0 and rng.uniform() < rare_shares.far_share:
        blur = far_blur(rng, magnification)
    elif rare_shares.smoothed_share > 0.0 and rng.uniform() < rare_shares.smoothed_share:
        # Often nearly all of the blur, as when a frame in focus is smoothed. Squares of the parts add.
        share = 1.0 - float(rng.uniform()) ** 3
        blur = random_blur(rng, math.sqrt(1.0 - share) * blur_px, magnification)
        smoothing = random_blur(rng, math.sqrt(share) * blur_px, magnification)
        averaged = _MOST_AVERAGED ** float(rng.uniform())
    else:
        blur = random_blur(rng, blur_px, magnification)
    scanned = np.ascontiguousarray(crop_margin(blur.apply(field.emission)))
    wd_error_mm = _wd_error_mm(blur, field.pixel_size_nm, focus_wd_mm) * (1.0 if rng.uniform() < 0.5 else -1.0)
    if smoothing is None:
        return _Look(scanned, None, scanned, blur.effective_px, wd_error_mm)
    total_px = math.hypot(blur.effective_px, smoothing.effective_px)
    return _Look(scanned, smoothing, smoothing.apply(scanned), total_px, wd_error_mm, averaged)


def _wd_error_mm(blur: Blur, pixel_size_nm: float, focus_wd_mm: float) -> float:
    """Unsigned defocus in mm at which the nominal column's disc equals this blur."""
    disc_mm = 0.5 * (blur.major_px + blur.minor_px) * pixel_size_nm * 1e-6
    return disc_mm / (2.0 * ElectronOptics().alpha_mrad(focus_wd_mm) * 1e-3)


def exposure_settings(rng: np.random.Generator, detector: Detector, variant: Variant) -> tuple[float, float]:
    """Brightness and contrast settings of a variant, relative to the detector's optimum."""
    shifts: dict[Variant, tuple[float, float, float, float]] = {
        "normal": (-8.0, 8.0, -8.0, 8.0),
        "dark": (-26.0, -8.0, -12.0, 8.0),
        "bright": (8.0, 26.0, -12.0, 8.0),
        "flat": (-12.0, 12.0, -40.0, -12.0),
    }
    if variant == "wide":
        return float(rng.uniform(5.0, 95.0)), float(rng.uniform(5.0, 95.0))
    low_b, high_b, low_c, high_c = shifts[variant]
    return (
        detector.brightness_optimum + float(rng.uniform(low_b, high_b)),
        detector.contrast_optimum + float(rng.uniform(low_c, high_c)),
    )


def zero_frame(
    rng: np.random.Generator,
    detector: Detector,
    focused: Picture,
    magnification: float,
    focus_wd_mm: float,
    variant: EmptyFrameKind | None = None,
) -> LabelledFrame:
    """A frame with nothing in it: noise about a random level, all white, or all black; by chance if not said."""
    if variant is None:
        variant = _ZERO[int(rng.integers(0, len(_ZERO)))]
    nothing = np.full_like(focused, focused.mean())
    brightness = {
        "noise": detector.brightness_optimum + float(rng.uniform(-22.0, 22.0)),
        "white": detector.brightness_optimum + float(rng.uniform(32.0, 120.0)),
        "black": detector.brightness_optimum - float(rng.uniform(32.0, 120.0)),
    }[variant]
    contrast = detector.contrast_optimum + float(rng.uniform(-40.0, 30.0))
    noisy = replace(detector, electrons=detector.electrons * float(np.exp(rng.uniform(-2.0, 0.0))))
    image = maybe_jpeg(rng, noisy.digitise(nothing, brightness, contrast, rng))
    truth = ground_truth(nothing, focused, noisy, magnification, brightness, contrast, 0.0, 0.0)
    return LabelledFrame(image, truth, variant, focus_wd_mm)


def maybe_jpeg(rng: np.random.Generator, image: Frame) -> Frame:
    """Encode and decode half of the frames as JPEG, as instruments do."""
    if rng.uniform() < 0.5:
        return image
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(72, 99))]
    _, data = cv2.imencode(".jpg", image, quality)
    decoded = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    return np.asarray(decoded, dtype=np.uint8)
