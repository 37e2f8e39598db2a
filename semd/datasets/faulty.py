"""Frames that should not be scored: empty, saturated, striped by charging, or of an unknown sample.

All are drawn at random; the same arguments give the same frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import cv2
import numpy as np

from semd.datasets.labelled import (
    EmptyFrameKind,
    Variant,
    exposure_settings,
    maybe_jpeg,
    random_blur,
    random_detector,
    zero_frame,
)
from semd.domain.expert_scale import blur_for_quality
from semd.simulator.detector import FULL_SCALE, Detector, Frame
from semd.simulator.field import MARGIN_PX, Sample, crop_margin, make_field
from semd.simulator.optics import FRAME_HEIGHT_PX, FRAME_WIDTH_PX
from semd.simulator.texture import Picture, fractal
from semd.simulator.truth import recognisability

Fault = Literal["noise", "white", "black", "saturated", "striped", "unknown sample"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
EMPTY: tuple[Fault, ...] = ("noise", "white", "black", "saturated")
"""Frames that an expert gives 0."""

_NOTHING: dict[Fault, EmptyFrameKind] = {"noise": "noise", "white": "white", "black": "black"}
_KNOWN: tuple[Sample, ...] = ("tinball", "grid")
_EXPOSURES: tuple[Variant, ...] = ("normal", "dark", "bright")
_MAGNIFICATIONS = (500.0, 1000.0, 2000.0, 5000.0, 10000.0)
STRIPES_GREY = (12.0, 60.0)
"""Amplitudes in grey levels of charging stripes; ordinary frames have 5 at most."""


@dataclass(frozen=True, slots=True)
class FaultyFrame:
    """A frame with one fault.

    Attributes:
        image: uint8 (480, 640).
        magnification: what the microscope said.
        fault: what is wrong with it.
    """

    image: Frame
    magnification: float
    fault: Fault


def faulty_frames(fault: Fault, count: int, seed: int) -> Iterator[FaultyFrame]:
    """Make `count` frames with one fault, at the papers' magnifications in turn.

    Noise, white, black: no field at all before the detector. Saturated: a field so much too bright that nothing
    of it can be recognised any more, an expert's 0. Striped: a tin ball or grid frame of any focus and ordinary
    exposure whose lines charging shifts by 12..60 grey levels. Unknown sample: the tracks and letters of a
    circuit, like nothing in the datasets.
    """
    for k in range(count):
        rng = np.random.default_rng([seed, FAULTS.index(fault), k])
        magnification = _MAGNIFICATIONS[k % len(_MAGNIFICATIONS)]
        yield FaultyFrame(_image(rng, fault, magnification), magnification, fault)


def _image(rng: np.random.Generator, fault: Fault, magnification: float) -> Frame:
    emission = _circuit(rng) if fault == "unknown sample" else _known_sample(rng, magnification)
    focused = np.ascontiguousarray(crop_margin(emission))
    detector = random_detector(rng, focused)
    if fault in _NOTHING:
        return zero_frame(rng, detector, focused, magnification, 0.0, _NOTHING[fault]).image
    blur = random_blur(rng, blur_for_quality(float(rng.uniform(1.0, 10.0)), magnification), magnification)
    signal = np.ascontiguousarray(crop_margin(blur.apply(emission)))
    brightness, contrast = exposure_settings(rng, detector, _EXPOSURES[int(rng.integers(0, len(_EXPOSURES)))])
    if fault == "saturated":
        brightness = _blinding(rng, detector, signal, focused, contrast, blur.effective_px)
    if fault == "striped":
        detector = replace(detector, charging_grey=float(rng.uniform(*STRIPES_GREY)))
    return maybe_jpeg(rng, detector.digitise(signal, brightness, contrast, rng))


def _known_sample(rng: np.random.Generator, magnification: float) -> Picture:
    sample = _KNOWN[int(rng.integers(0, len(_KNOWN)))]
    return make_field(sample, magnification, int(rng.integers(0, 2**62))).emission


def _blinding(
    rng: np.random.Generator, detector: Detector, signal: Picture, focused: Picture, contrast: float, blur_px: float
) -> float:
    """A brightness setting at which nothing of the field can be recognised."""
    brightness = detector.brightness_optimum + float(rng.uniform(20.0, 60.0))
    while recognisability(signal, focused, detector, brightness, contrast, blur_px) > 0.0:
        brightness += 4.0
    # Just there the noise still gives the field's outlines away.
    return brightness + float(rng.uniform(4.0, 30.0))


def _circuit(rng: np.random.Generator) -> Picture:
    """Emission of straight tracks, pads and letters, float32 (608, 768)."""
    height, width = FRAME_HEIGHT_PX + 2 * MARGIN_PX, FRAME_WIDTH_PX + 2 * MARGIN_PX
    canvas = np.full((height, width), int(rng.integers(50, 100)), np.uint8)
    for _ in range(int(rng.integers(8, 24))):
        row, column = int(rng.integers(0, height)), int(rng.integers(0, width))
        turn, thick = int(rng.integers(0, width)), int(rng.integers(4, 24))
        level = int(rng.integers(120, 230))
        cv2.line(canvas, (0, row), (turn, row), level, thick)
        cv2.line(canvas, (turn, row), (turn, height if rng.uniform() < 0.5 else 0), level, thick)
        cv2.rectangle(canvas, (column, row), (column + 2 * thick, row + 2 * thick), level, -1)
    for _ in range(int(rng.integers(2, 8))):
        letters = "".join(chr(int(code)) for code in rng.integers(ord("A"), ord("Z") + 1, 4))
        place = int(rng.integers(0, width - 200)), int(rng.integers(60, height))
        scale, level = float(rng.uniform(1.0, 3.0)), int(rng.integers(150, 256))
        cv2.putText(canvas, letters, place, cv2.FONT_HERSHEY_SIMPLEX, scale, level, int(rng.integers(2, 8)))
    grain = np.float32(rng.uniform(0.005, 0.03)) * fractal(rng, (height, width), 2.0, 64.0)
    return np.asarray(np.clip(canvas / np.float32(FULL_SCALE) + grain, 0.0, 1.0), dtype=np.float32)
