"""The hidden side of the feature-level twin: what B microscopes look at, drawn anew for every episode.

Emission is a set of 256 samples of a noise-free picture (its quantiles, so to speak), in the units of the
field simulator. Lengths along the working distance are in focus units u (`Optics.focus_unit_mm`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from semd.domain.expert_scale import lenient_blur_px, quality_slope

Column = NDArray[np.float64]

SAMPLES = 256
_MAGNIFICATIONS = (500.0, 1000.0, 2000.0, 5000.0, 10000.0)

# What microscopes to train on differ in, here and on rendered frames.
ELECTRONS = (60.0, 1000.0)
"""Detected electrons per pixel at emission 1, log-uniform."""
MOST_BACKLASH_U = 0.25
MOST_DRIFT_U = 0.04
IMPERFECT_SHARE = 0.5
"""Share of the microscopes that have backlash at all, and, drawn apart, of those that drift."""

# How a picture goes with the blur; `twin_fit` looks for rendered fields within these.
LEAST_BLUR = (0.05, 0.5)
SHRINK_AT, SHRINK_POWER, SHRINK_FLOOR = (4.0, 100.0), (0.8, 1.4), (0.0, 0.2)
GRADIENT_PER_SPREAD, GRADIENT_AT, GRADIENT_POWER = (0.012, 0.15), (0.8, 6.0), (0.8, 1.3)


@dataclass(slots=True)
class Scenes:
    """B scenes; every array has shape (B,) but the first two, (B, 256).

    Attributes:
        emission: samples of the in-focus emission, 0..1.
        noise_shape: a standard normal deviate for each sample: the noise of its pixels.
        focus_u: focus, in u from the start's working distance.
        blur_per_u: true aperture half angle over the nominal one: relative blur per u of defocus.
        least_blur: relative blur in focus (spot, astigmatism).
        tolerated_px: the blur disc that experts hardly mind, in pixels.
        quality_slope: points of focus quality lost per unit of `log2(1 + blur**2)`, see `truth`.
        shrink_at: relative blur at which the picture's contrast starts to go.
        shrink_power: how sharply it goes.
        shrink_floor: share of the contrast that no blur takes.
        gradient: in-focus gradient of the emission, per pixel.
        gradient_at: relative blur at which the gradient starts to go.
        gradient_power: how sharply it goes.
        brightness_at: setting at which `mid` is middle grey.
        contrast_at: setting at which the gain is `gain_grey`.
        grey_per_brightness: grey levels per unit of brightness.
        contrast_per_octave: units of contrast that double the gain.
        mid: emission the gain turns about.
        gain_grey: grey levels per unit of emission at `contrast_at`.
        electrons: detected electrons per pixel at emission 1.
        readout_grey: noise behind the gain.
        smear: share of the noise shared by neighbours in a line.
        backlash_u: lens hysteresis.
        drift_u: walk of the focus from scan to scan.
        score_bias: the scorer's error on this field near focus.
        score_bias_low: its further error far from focus.
        score_wave: amplitude of its error's change along the defocus.
        score_wave_k: wave number of that, per u.
        score_wave_phase: its phase.
        score_noise: standard deviation from frame to frame.
        score_exposure: points by which it is off where the exposure's defect is 1 or more, or that share of it.
        score_exposure_loss: points it takes off per unit of the exposure's defect.
        low_u: lower limit of the working distance, in u from the start.
        high_u: upper limit.
        wd_only: True where only the working distance is controlled.
    """

    emission: Column
    noise_shape: Column
    focus_u: Column
    blur_per_u: Column
    least_blur: Column
    tolerated_px: Column
    quality_slope: Column
    shrink_at: Column
    shrink_power: Column
    shrink_floor: Column
    gradient: Column
    gradient_at: Column
    gradient_power: Column
    brightness_at: Column
    contrast_at: Column
    grey_per_brightness: Column
    contrast_per_octave: Column
    mid: Column
    gain_grey: Column
    electrons: Column
    readout_grey: Column
    smear: Column
    backlash_u: Column
    drift_u: Column
    score_bias: Column
    score_bias_low: Column
    score_wave: Column
    score_wave_k: Column
    score_wave_phase: Column
    score_noise: Column
    score_exposure: Column
    score_exposure_loss: Column
    low_u: Column
    high_u: Column
    wd_only: Column

    def replace_rows(self, rows: NDArray[np.int64], fresh: Scenes) -> None:
        """Put the scenes of `fresh` in place of those at `rows`."""
        for column in fields(self):
            getattr(self, column.name)[rows] = getattr(fresh, column.name)


@dataclass(frozen=True, slots=True)
class SceneRanges:
    """Ranges of the scenes; the rest of the ranges stands beside each draw.

    Attributes:
        nearest_start_u: smallest distance of the start from focus.
        farthest_start_u: largest.
        alpha_mrad: true aperture half angle; the nominal one is `nominal_alpha_mrad`.
        nominal_alpha_mrad: what the daemon assumes.
        score_noise: largest standard deviation of the score from frame to frame.
        score_bias: standard deviation of the scorer's error on a field near focus.
        score_bias_low: the same far from focus.
        score_wave: largest amplitude of its error's change along the defocus.
        score_exposure: the most that a bad exposure puts it off, to either side; mostly far less.
        score_exposure_loss: the most that it takes off per unit of the exposure's defect.
        wd_only_share: share of episodes that control the working distance alone.
    """

    nearest_start_u: float = 0.0
    farthest_start_u: float = 30.0
    alpha_mrad: tuple[float, float] = (1.0, 5.0)
    nominal_alpha_mrad: float = 3.0
    score_noise: float = 0.25
    score_bias: float = 0.15
    score_bias_low: float = 0.5
    score_wave: float = 0.5
    score_exposure: float = 0.0
    score_exposure_loss: float = 0.6
    wd_only_share: float = 0.1


SHIPPED_SCORER = SceneRanges(
    score_noise=0.1,
    score_bias=0.15,
    score_bias_low=0.15,
    score_wave=0.2,
    score_exposure=1.2,
    score_exposure_loss=0.0,
)
"""With errors somewhat larger than those of the scoring machine that comes with semd: `semd evaluate twin --scored`
compares them. The control machine learns with larger ones: it must not rely on a scoring machine that good."""


def draw_scenes(count: int, ranges: SceneRanges, rng: np.random.Generator) -> Scenes:
    """Draw `count` scenes; the ranges hold what the image simulator renders, and some more on either side."""
    emission = _draw_emission(count, rng)
    low, high = np.percentile(emission, (2.0, 98.0), axis=1)
    spread = np.maximum(high - low, 0.1)
    low_alpha, high_alpha = ranges.alpha_mrad
    nominal = ranges.nominal_alpha_mrad
    share = rng.uniform(0.3, 0.7, count)
    side = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    magnification = rng.choice(_MAGNIFICATIONS, count)
    focus_u = side * rng.uniform(ranges.nearest_start_u, ranges.farthest_start_u, count)
    return Scenes(
        emission=emission,
        noise_shape=rng.standard_normal((count, SAMPLES)),
        focus_u=focus_u,
        blur_per_u=rng.triangular(low_alpha, nominal, high_alpha, count) / nominal,
        least_blur=rng.uniform(*LEAST_BLUR, count),
        tolerated_px=np.array([lenient_blur_px(each) for each in magnification]),
        quality_slope=np.array([quality_slope(each) for each in magnification]),
        shrink_at=_log_uniform(rng, *SHRINK_AT, count),
        shrink_power=rng.uniform(*SHRINK_POWER, count),
        shrink_floor=rng.uniform(*SHRINK_FLOOR, count),
        gradient=spread * _log_uniform(rng, *GRADIENT_PER_SPREAD, count),
        gradient_at=_log_uniform(rng, *GRADIENT_AT, count),
        gradient_power=rng.uniform(*GRADIENT_POWER, count),
        brightness_at=rng.uniform(30.0, 70.0, count),
        contrast_at=rng.uniform(30.0, 70.0, count),
        grey_per_brightness=rng.uniform(2.5, 6.0, count),
        contrast_per_octave=rng.uniform(11.0, 24.0, count),
        mid=share * 0.5 * (low + high) + (1.0 - share) * emission.mean(axis=1),
        gain_grey=rng.uniform(135.0, 180.0, count) / spread,
        electrons=_log_uniform(rng, *ELECTRONS, count),
        readout_grey=rng.uniform(0.5, 3.0, count),
        smear=rng.uniform(0.0, 0.4, count),
        backlash_u=rng.uniform(0.0, MOST_BACKLASH_U, count) * (rng.random(count) < IMPERFECT_SHARE),
        drift_u=rng.uniform(0.0, MOST_DRIFT_U, count) * (rng.random(count) < IMPERFECT_SHARE),
        score_bias=ranges.score_bias * rng.standard_normal(count),
        score_bias_low=ranges.score_bias_low * rng.standard_normal(count),
        score_wave=rng.uniform(0.0, ranges.score_wave, count),
        score_wave_k=rng.uniform(0.2, 1.0, count),
        score_wave_phase=rng.uniform(0.0, 2.0 * np.pi, count),
        score_noise=rng.uniform(0.3, 1.0, count) * ranges.score_noise,
        # Heavy tails, as the scoring machine's: half of them are below an eighth of the largest.
        score_exposure=ranges.score_exposure * (2.0 * (exposure_share := rng.random(count)) - 1.0) ** 3,
        score_exposure_loss=ranges.score_exposure_loss * exposure_share,
        low_u=np.minimum(focus_u, 0.0) - _log_uniform(rng, 5.0, 200.0, count),
        high_u=np.maximum(focus_u, 0.0) + _log_uniform(rng, 5.0, 200.0, count),
        wd_only=(rng.random(count) < ranges.wd_only_share).astype(np.float64),
    )


def _draw_emission(count: int, rng: np.random.Generator) -> Column:
    """Mixtures of a background, a body and a few highlights: balls on carbon, bars and hollows, and between.

    Shares and levels are free: from mostly dark with bright spots to mostly bright with dark ones.
    """
    background = rng.uniform(0.05, 0.3, (count, 1))
    body = background + rng.uniform(0.1, 0.5, (count, 1))
    highlight = np.minimum(body + rng.uniform(0.1, 0.5, (count, 1)), 1.0)
    body_share = rng.uniform(0.1, 0.9, (count, 1))
    highlight_share = rng.uniform(0.0, 0.15, (count, 1))
    pick = rng.random((count, SAMPLES))
    level = np.where(pick < body_share, body, background)
    level = np.where(pick > 1.0 - highlight_share, highlight, level)
    level += rng.uniform(0.01, 0.12, (count, 1)) * rng.standard_normal((count, SAMPLES))
    emission: Column = np.clip(level, 0.0, 1.0)
    return emission


def _log_uniform(rng: np.random.Generator, low: float, high: float, count: int) -> Column:
    drawn: Column = np.exp(rng.uniform(np.log(low), np.log(high), count))
    return drawn
