"""Scenes of the feature-level twin: hidden properties of sample and microscope, drawn for every episode.

Emission is given as 256 samples of a noise-free picture, in the units of the field simulator. Lengths along the working
distance are in focus units u (`Optics.focus_unit_mm`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from semd.domain.expert_scale import lenient_blur_px, quality_slope

Column = NDArray[np.float64]

SAMPLES = 256
_MAGNIFICATIONS = (500.0, 1000.0, 2000.0, 5000.0, 10000.0)

# Ranges of the instruments used for training, in the twin and on rendered frames.
ELECTRONS = (60.0, 1000.0)
"""Detected electrons per pixel at emission 1, log-uniform."""
MAX_BACKLASH_U = 0.25
MAX_DRIFT_U = 0.04
IMPERFECT_SHARE = 0.5
"""Share of the microscopes with backlash; an independently drawn share of the same size has focus drift."""

# Ranges of the dependence of a picture on the blur; `twin_fit` fits rendered fields within them.
MIN_BLUR = (0.05, 0.5)
SHRINK_AT, SHRINK_POWER, SHRINK_FLOOR = (4.0, 100.0), (0.8, 1.4), (0.0, 0.2)
GRADIENT_PER_SPREAD, GRADIENT_AT, GRADIENT_POWER = (0.012, 0.15), (0.8, 6.0), (0.8, 1.3)


@dataclass(slots=True)
class Scenes:
    """B scenes: float64 arrays of shape (B,), the first two of shape (B, 256).

    Attributes:
        emission: samples of the in-focus emission, 0..1.
        noise_shape: standard normal deviate of each sample: normalised noise of its pixels.
        focus_u: working distance of focus, in u from the start.
        blur_per_u: true aperture half angle over the nominal one: relative blur per u of defocus.
        least_blur: relative blur in focus (spot, astigmatism).
        tolerated_px: blur diameter that experts tolerate, in pixels.
        quality_slope: points of focus quality lost per unit of `log2(1 + blur**2)`, see `truth`.
        shrink_at: relative blur at which the decaying part of the contrast is halved.
        shrink_power: power of that decay.
        shrink_floor: share of the contrast that does not decay.
        gradient: in-focus gradient of the emission, per pixel.
        gradient_at: relative blur at which the gradient is halved.
        gradient_power: power of that decay.
        brightness_at: setting at which `mid` is middle grey.
        contrast_at: setting at which the gain is `gain_grey`.
        grey_per_brightness: grey levels per unit of brightness.
        contrast_per_octave: units of contrast that double the gain.
        mid: emission whose grey level is independent of the gain.
        gain_grey: grey levels per unit of emission at `contrast_at`.
        electrons: detected electrons per pixel at emission 1.
        readout_grey: standard deviation in grey levels of the noise added after the gain.
        smear: share of the noise that neighbours in a line have in common.
        backlash_u: lens hysteresis in u.
        drift_u: standard deviation of the focus drift from scan to scan, in u.
        score_bias: score error on this field near focus, in points.
        score_bias_low: further score error far from focus.
        score_wave: amplitude of the score error's wave along the defocus.
        score_wave_k: wave number of that wave, per u.
        score_wave_phase: phase of that wave.
        score_noise: standard deviation of the score from frame to frame.
        score_exposure: score error at an exposure defect of 1 or more; proportional to the defect below.
        score_exposure_loss: points lost per unit of the exposure defect.
        low_u: lower limit of the working distance, in u from the start.
        high_u: upper limit of the working distance, in u from the start.
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
        """Replace the scenes at `rows` by those of `fresh`."""
        for column in fields(self):
            getattr(self, column.name)[rows] = getattr(fresh, column.name)


@dataclass(frozen=True, slots=True)
class SceneRanges:
    """Configurable ranges of the scenes; the other ranges are constants of `draw_scenes`.

    Attributes:
        nearest_start_u: smallest distance of the start from focus.
        farthest_start_u: largest distance of the start from focus.
        alpha_mrad: range of the true aperture half angle.
        nominal_alpha_mrad: aperture half angle that the daemon assumes.
        score_noise: largest standard deviation of the score from frame to frame.
        score_bias: standard deviation over fields of the score error near focus.
        score_bias_low: standard deviation over fields of the further score error far from focus.
        score_wave: largest amplitude of the score error's wave along the defocus.
        score_exposure: largest score error of either sign due to bad exposure.
        score_exposure_loss: largest loss per unit of the exposure defect.
        wd_only_share: share of the episodes that control only the working distance.
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
"""Score errors somewhat larger than those of the shipped scoring machine; `semd evaluate twin --scored` compares them.

Training of the control machine uses the larger errors of the defaults, so that it tolerates a worse scoring machine.
"""


def draw_scenes(count: int, ranges: SceneRanges, rng: np.random.Generator) -> Scenes:
    """Draw `count` scenes from ranges that include those of the rendering simulator with a margin on either side."""
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
        least_blur=rng.uniform(*MIN_BLUR, count),
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
        backlash_u=rng.uniform(0.0, MAX_BACKLASH_U, count) * (rng.random(count) < IMPERFECT_SHARE),
        drift_u=rng.uniform(0.0, MAX_DRIFT_U, count) * (rng.random(count) < IMPERFECT_SHARE),
        score_bias=ranges.score_bias * rng.standard_normal(count),
        score_bias_low=ranges.score_bias_low * rng.standard_normal(count),
        score_wave=rng.uniform(0.0, ranges.score_wave, count),
        score_wave_k=rng.uniform(0.2, 1.0, count),
        score_wave_phase=rng.uniform(0.0, 2.0 * np.pi, count),
        score_noise=rng.uniform(0.3, 1.0, count) * ranges.score_noise,
        # Heavy tails, as the scoring machine's: half of the errors are below an eighth of the largest.
        score_exposure=ranges.score_exposure * (2.0 * (exposure_share := rng.random(count)) - 1.0) ** 3,
        score_exposure_loss=ranges.score_exposure_loss * exposure_share,
        low_u=np.minimum(focus_u, 0.0) - _log_uniform(rng, 5.0, 200.0, count),
        high_u=np.maximum(focus_u, 0.0) + _log_uniform(rng, 5.0, 200.0, count),
        wd_only=(rng.random(count) < ranges.wd_only_share).astype(np.float64),
    )


def _draw_emission(count: int, rng: np.random.Generator) -> Column:
    """Mixtures of background, body and highlights, float64 (B, 256): from balls on carbon to bars with hollows.

    Random shares and levels range from mostly dark with bright spots to mostly bright with dark spots.
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
