"""Measurements of the twin's frames from scene and knobs: score, AVG, GRD, VAR and exposure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semd.domain.exposure import ExposureRange
from semd.simulator.twin_scene import SAMPLES, Column, Scenes

_FULL_SCALE = 255.0
_WIDEST_AVERAGING_PX = 48.0
# Percentiles of `domain.exposure.measure_exposure`, as indices into 256 sorted samples.
_LOW_PLACE = int(np.ceil(0.02 * SAMPLES)) - 1
_HIGH_PLACE = int(np.ceil(0.98 * SAMPLES)) - 1


@dataclass(frozen=True, slots=True)
class Frames:
    """Measurements and ground truth of B frames; float64 (B,) unless stated otherwise.

    Attributes:
        score: score of the scoring machine, 0..10.
        avg, grd, var: the image features, normalised as in `domain.features`.
        black, white, level, contrast: the exposure, as in `domain.exposure`.
        quality: true focus quality, 1..10.
        true_score: expert score: quality times recognisability.
        exposure_ok: True where brightness and contrast truly suit the field, bool (B,).
    """

    score: Column
    avg: Column
    grd: Column
    var: Column
    black: Column
    white: Column
    level: Column
    contrast: Column
    quality: Column
    true_score: Column
    exposure_ok: NDArray[np.bool_]


def take_frames(
    scenes: Scenes,
    lens_u: Column,
    brightness: Column,
    contrast: Column,
    good: ExposureRange,
    rng: np.random.Generator,
) -> Frames:
    """Scan B frames.

    Args:
        scenes: B scenes.
        lens_u: working distances of the lens, including hysteresis, in u from the start.
        brightness: brightness settings, 0..100.
        contrast: contrast settings, 0..100.
        good: accepted exposure range; the score error is larger outside it.
        rng: random generator of the score noise.
    """
    defocus_u = lens_u - scenes.focus_u
    blur = np.hypot(scenes.least_blur, scenes.blur_per_u * defocus_u)
    quality = np.maximum(1.0, 10.0 - scenes.quality_slope * np.log2(1.0 + blur**2))

    gain = scenes.gain_grey * 2.0 ** ((contrast - scenes.contrast_at) / scenes.contrast_per_octave)
    offset = 0.5 * _FULL_SCALE + scenes.grey_per_brightness * (brightness - scenes.brightness_at)
    kept = scenes.shrink_floor + (1.0 - scenes.shrink_floor) / (1.0 + (blur / scenes.shrink_at) ** scenes.shrink_power)
    mean = scenes.emission.mean(axis=1, keepdims=True)
    blurred = mean + (scenes.emission - mean) * kept[:, None]
    ideal = gain[:, None] * (blurred - scenes.mid[:, None]) + offset[:, None]
    sigma = _noise_grey(scenes, blurred, gain)
    grey = np.clip(np.rint(ideal + sigma * scenes.noise_shape), 0.0, _FULL_SCALE)

    level = grey.mean(axis=1)
    ordered = np.partition(grey, (_LOW_PLACE, _HIGH_PLACE), axis=1)
    black, white = (grey == 0.0).mean(axis=1), (grey == _FULL_SCALE).mean(axis=1)
    spread = ordered[:, _HIGH_PLACE] - ordered[:, _LOW_PLACE]
    open_share = 1.0 - black - white
    defect = exposure_defect(black, white, level, spread, good)
    visible = _recognisability(scenes, blur, ideal, sigma)
    return Frames(
        score=np.clip((quality + _score_error(scenes, quality, defocus_u, defect, rng)) * visible, 0.0, 10.0),
        avg=level / 127.5 - 1.0,
        grd=np.sqrt(open_share * _gradient(scenes, blur, gain, sigma) / _FULL_SCALE),
        var=grey.std(axis=1) / 127.5,
        black=black,
        white=white,
        level=level,
        contrast=spread,
        quality=quality,
        true_score=quality * visible,
        exposure_ok=_exposure_ok(scenes, gain, offset),
    )


def exposure_defect(black: Column, white: Column, level: Column, contrast: Column, good: ExposureRange) -> Column:
    """`ExposureRange.defect` for B frames at once."""
    clipped = np.maximum(0.0, black + white - good.max_clipped)
    off_level = np.maximum(0.0, np.maximum(good.min_level - level, level - good.max_level)) / 60.0
    low_contrast = np.maximum(0.0, 1.0 - contrast / good.min_contrast)
    defect: Column = np.minimum(1.0, 4.0 * clipped) + np.minimum(1.0, off_level) + low_contrast
    return defect


def _noise_grey(scenes: Scenes, emission: Column, gain: Column) -> Column:
    """Standard deviation of the noise in grey levels, (B, 256): amplified shot noise and readout noise."""
    shot = (gain**2 / scenes.electrons)[:, None] * np.maximum(emission, 0.005)
    sigma: Column = np.sqrt(shot + (scenes.readout_grey**2)[:, None])
    return sigma


def _gradient(scenes: Scenes, blur: Column, gain: Column, sigma: Column) -> Column:
    """Mean of |I(x+1) - I(x)| + |I(y+1) - I(y)| without clipping: structure and noise in quadrature.

    The mean absolute value of a normal deviate is sqrt(2 / pi) standard deviations; neighbours in a line share noise.
    """
    structure = (gain * scenes.gradient / (1.0 + (blur / scenes.gradient_at) ** scenes.gradient_power)) ** 2
    noise = 2.0 * (sigma**2).mean(axis=1)
    across = np.sqrt(structure + noise * (1.0 - scenes.smear))
    down = np.sqrt(structure + noise)
    gradient: Column = np.sqrt(2.0 / np.pi) * (across + down)
    return gradient


def _recognisability(scenes: Scenes, blur: Column, ideal: Column, sigma: Column) -> Column:
    """Recognisability of the frames, 0..1: `truth.recognisability` for B scenes, without its term for detail.

    Samples of the emission have no positions and so no detail apart from contrast; fields without detail are not drawn.
    On rendered fields with detail, at a low dose and any settings, the omitted term changes one frame in 300, a tenth
    of the frames on which twin and rendering disagree about recognisability.
    """
    shown = np.clip(ideal, 0.0, _FULL_SCALE)
    is_open = (ideal > 0.0) & (ideal < _FULL_SCALE)
    noise_grey = np.sqrt((np.where(is_open, sigma, 0.0) ** 2).mean(axis=1) + 1.0 / 12.0)
    signal_grey = shown.std(axis=1)
    disc_px = np.clip(blur * scenes.tolerated_px, 2.0, _WIDEST_AVERAGING_PX)
    snr = signal_grey * np.sqrt(np.maximum(1.0, 0.25 * np.pi * disc_px**2)) / noise_grey
    visible: Column = np.clip((signal_grey - 0.6) / 0.8, 0.0, 1.0) * np.clip(snr - 0.5, 0.0, 1.0)
    return visible


def _score_error(
    scenes: Scenes, quality: Column, defocus_u: Column, defect: Column, rng: np.random.Generator
) -> Column:
    """Errors of a trained scoring network, in points.

    Terms: a constant of the field, a wave along the defocus, an error of bad exposure, and noise from frame to frame.
    The constant, the wave and the noise grow with the distance from focus.
    """
    far = np.clip((10.0 - quality) / 5.0, 0.0, 1.0)
    error: Column = scenes.score_bias + far * (
        scenes.score_bias_low + scenes.score_wave * np.sin(scenes.score_wave_k * defocus_u + scenes.score_wave_phase)
    )
    error += scenes.score_exposure * np.minimum(defect, 1.0) - scenes.score_exposure_loss * defect
    error += scenes.score_noise * (0.7 + 0.6 * far) * rng.standard_normal(len(quality))
    return error


def _exposure_ok(scenes: Scenes, gain: Column, offset: Column) -> NDArray[np.bool_]:
    """`truth.brightness_contrast_ok` for B scenes, from the noise-free emission in focus, bool (B,)."""
    ideal = gain[:, None] * (scenes.emission - scenes.mid[:, None]) + offset[:, None]
    clipped = ((ideal <= 0.0) | (ideal >= _FULL_SCALE)).mean(axis=1)
    shown = np.clip(ideal, 0.0, _FULL_SCALE)
    ordered = np.partition(shown, (_LOW_PLACE, _HIGH_PLACE), axis=1)
    spread = ordered[:, _HIGH_PLACE] - ordered[:, _LOW_PLACE]
    noise = np.sqrt((_noise_grey(scenes, scenes.emission, gain) ** 2).mean(axis=1))
    level = shown.mean(axis=1)
    suits: NDArray[np.bool_] = (
        (clipped <= 0.03) & (level >= 60.0) & (level <= 195.0) & (spread >= 80.0) & (spread >= 3.0 * noise)
    )
    return suits
