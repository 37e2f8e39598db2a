"""What the steps of a run tell together: where its focus lies, and how sharp each of its frames is.

A score errs by its field: scanned again with the same settings a frame is misjudged in the same way (correlation
0.9 on fields never seen), so repeating it confirms next to nothing. At another blur the same field errs anew (0.3
within a point, 0.1 beyond two). And the working distances are known: with the defocus disc `2 alpha |WD - f|` and the
experts' scale, one focus `f` explains all scores of a run, or does not:

    s_i = t - h (10 - q_i) + e_i,   q_i = q(sqrt(x_i**2 + a**2)),   x_i = k (WD_i - f) / u

with the scale `q` of `expert_scale`, the focus unit `u` assumed of the column, a factor `k` for what was assumed
wrongly of it (aperture, pixel size), and a rest `a` that no working distance takes away (spot, astigmatism), both in
units of the blur that experts hardly mind. The scoring machine may misread a sample throughout: its top score `t` is
then below 10, or it counts only a share `h` of the points that blur costs; or it takes what is left of it far from
focus for detail. The errors `e` have the standard deviations that it expects of itself, or larger ones where these are
unusual, and the correlations above. The unknowns are laid on a grid, and Bayes' rule does the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semd.decision.criteria import expected_error
from semd.decision.rules import RunRules
from semd.domain.axes import Axis
from semd.domain.expert_scale import quality_slope
from semd.domain.observation import Measurement, Observation

Table = NDArray[np.float64]

_REPEATED = 0.9
_DECAY_POINTS = 1.0
# Two frames that only happen to score alike, here a flank and there noise, lie far apart.
_DECAY_UNITS = 15.0
# Errors have heavy tails: those of Student's t with so many degrees of freedom.
_FREEDOM = 4.0
_LEAST_SIGMA = 0.1
# What a bad exposure does to a score beside what the scoring machine expects: it blurs it, to either side, and takes
# nothing off; by so much from a defect of 1 on.
_EXPOSURE_SIGMA = 0.4
# Below the scale's 1 nothing was recognised, whatever the focus.
_LEAST_SCORE = 0.7
_DEVIATIONS = np.linspace(-2.5, 2.5, 9)
_FACTORS = np.exp(0.35 * _DEVIATIONS)
_FACTOR_LOG_WEIGHTS = -0.5 * _DEVIATIONS**2
# A column in good order: in focus its frames pass. How sharp exactly is left open.
_RESTS = np.array([0.15, 0.4, 0.7])
_REST_LOG_WEIGHTS = np.log([0.45, 0.4, 0.15])
# How a sample is read: top score, share of the lost points that is seen, whether it goes astray far from focus, and how
# common that is. As experts do; too severely, which tells in focus; as experts do near focus only.
_READINGS = ((10.0, 1.0, False, 0.77), (9.1, 0.9, False, 0.05), (8.2, 0.8, False, 0.03), (10.0, 1.0, True, 0.15))
# Astray: noise and smooth gradients, all that is left of an unknown sample far from focus, are taken for detail and
# scored 1 to 6. The scoring machine's own error tells: below 0.16 points next to no score of 3 to 6 was wrong, above
# 0.22 most were. A field that experts give 6 is always recognised.
_SURE_SIGMA, _UNSURE_SIGMA = 0.16, 0.22
_RECOGNISED = 6.0
_STRAY_POINTS, _STRAY_SIGMA = 2.5, 2.0
_BEYOND = 1.3
_COARSE_UNITS = 0.5
_FINE_POINTS = 121


@dataclass(frozen=True, slots=True)
class FocusBelief:
    """What a run knows of its focus.

    Attributes:
        wd_mm: expected working distance of the focus.
        sigma_mm: its standard deviation.
        depth_mm: defocus that experts hardly mind: the focus unit, as the run's own frames correct it.
        places: the frames that took part, by their number in the run.
        quality: expected focus quality of each of these in points, (n,).
        sigma: its standard deviation in points, (n,).
        passing: probability that it is above the threshold, (n,).
        grid_mm: working distances that the focus may have, ascending, (F,).
        share: probability of each, (F,).
    """

    wd_mm: float
    sigma_mm: float
    depth_mm: float
    places: tuple[int, ...]
    quality: Table
    sigma: Table
    passing: Table
    grid_mm: Table
    share: Table

    def beside(self, wd_mm: float, side: float) -> tuple[float, float]:
        """Probability that the focus lies above (`side` > 0) or below a working distance, and the middle of it, mm."""
        share = np.where((self.grid_mm - wd_mm) * side > 0.0, self.share, 0.0)
        total = float(share.sum())
        middle_mm = float(np.interp(0.5 * total, np.cumsum(share) - 0.5 * share, self.grid_mm))
        return total, middle_mm if total > 0.0 else wd_mm


def focus_belief(frames: tuple[Observation, ...], rules: RunRules) -> FocusBelief | None:
    """Fit the focus to the frames of a run.

    Returns None where the rules do not ask for it, nothing is assumed of the optics, the working distance is not
    controlled, or no frame can be used: measured, recognised, and not in doubt.
    """
    if not rules.fits_focus or rules.optics is None or Axis.WD not in rules.axes:
        return None
    used = [(place, seen, seen.measurement) for place, seen in enumerate(frames) if seen.measurement is not None]
    used = [each for each in used if _is_usable(each[2])]
    if not used:
        return None
    start = frames[0].parameters
    unit_mm = rules.optics.focus_unit_mm(start.magnification, start.pixel_nm)
    wd_units = np.array([(seen.parameters.wd_mm - start.wd_mm) / unit_mm for _, seen, _ in used])
    said = _Scores(
        points=np.array([measured.score for _, _, measured in used]),
        sigma=np.array([_sigma(measured, rules) for _, _, measured in used]),
        may_stray=np.array([_may_stray(measured) for _, _, measured in used]),
    )
    slope = quality_slope(start.magnification)

    # The focus lies in the run's window or not far beyond: first roughly, then finely where it is likely.
    reach = _BEYOND * rules.optics.window / 2.0
    low, high = min(-reach, float(wd_units.min())), max(reach, float(wd_units.max()))
    coarse = np.arange(low, high + _COARSE_UNITS, _COARSE_UNITS)
    mean, sigma = _moments(coarse, _posterior(coarse, wd_units, said, slope)[0])
    half = max(4.0 * sigma, 2.0 * _COARSE_UNITS)
    fine = np.linspace(max(mean - half, low), min(mean + half, high), _FINE_POINTS)
    weights, qualities = _posterior(fine, wd_units, said, slope)
    mean, sigma = _moments(fine, weights)

    share, quality = weights.reshape(-1), qualities.reshape(weights.size, -1)
    expected = share @ quality
    return FocusBelief(
        wd_mm=start.wd_mm + mean * unit_mm,
        sigma_mm=sigma * unit_mm,
        depth_mm=unit_mm * float(weights.sum(axis=(0, 2)) @ (1.0 / _FACTORS)),
        places=tuple(place for place, _, _ in used),
        quality=expected,
        sigma=np.sqrt(np.maximum(share @ quality**2 - expected**2, 0.0)),
        passing=share @ (quality > rules.accept_score),
        grid_mm=start.wd_mm + fine * unit_mm,
        share=weights.sum(axis=(1, 2)),
    )


@dataclass(frozen=True, slots=True)
class _Scores:
    """What the scoring machine says of the frames that take part.

    Attributes:
        points: their scores, (n,).
        sigma: standard deviations of these about the focus quality, (n,).
        may_stray: 1 where a score that far from focus has gone astray would look like this, 0 where not, (n,).
    """

    points: Table
    sigma: Table
    may_stray: Table


def _is_usable(measured: Measurement) -> bool:
    return not measured.doubts and measured.score >= _LEAST_SCORE


def _sigma(measured: Measurement, rules: RunRules) -> float:
    """Standard deviation in points of a score about the focus quality."""
    defect = rules.exposure.defect(measured.exposure)
    return math.hypot(expected_error(measured), _LEAST_SIGMA, _EXPOSURE_SIGMA * min(defect, 1.0))


def _may_stray(measured: Measurement) -> float:
    return min(max((measured.sigma - _SURE_SIGMA) / (_UNSURE_SIGMA - _SURE_SIGMA), 0.0), 1.0)


def _whitener(points: Table, wd_units: Table) -> Table:
    """The matrix that makes the errors, in their standard deviations, independent, (n, n)."""
    apart = np.abs(points[:, None] - points) / _DECAY_POINTS + np.abs(wd_units[:, None] - wd_units) / _DECAY_UNITS
    alike = _REPEATED * np.exp(-apart)
    np.fill_diagonal(alike, 1.0)
    return np.asarray(np.linalg.inv(np.linalg.cholesky(alike)))


def _posterior(focus: Table, wd_units: Table, said: _Scores, slope: float) -> tuple[Table, Table]:
    """Probability of each focus, factor and rest, (F, 9, 3), and the qualities that they mean, (F, 9, 3, n)."""
    offset = (wd_units - focus[:, None])[:, None, None, :] * _FACTORS[:, None, None]
    qualities = np.maximum(1.0, 10.0 - slope * np.log2(1.0 + offset**2 + (_RESTS**2)[:, None]))
    whitener = _whitener(said.points, wd_units).T
    stray = said.may_stray * np.maximum(_RECOGNISED - qualities, 0.0) / (_RECOGNISED - 1.0)
    prior = _FACTOR_LOG_WEIGHTS[:, None] + _REST_LOG_WEIGHTS
    readings = []
    for top, share, strays, common in _READINGS:
        expected, sigma = top - share * (10.0 - qualities), said.sigma
        if strays:
            expected, sigma = expected + _STRAY_POINTS * stray, np.hypot(sigma, _STRAY_SIGMA * stray)
        errors = (said.points - expected) / sigma @ whitener
        likelihood = -0.5 * (_FREEDOM + 1.0) * np.log1p(errors**2 / _FREEDOM) - np.log(sigma / said.sigma)
        readings.append(likelihood.sum(axis=-1) + prior + math.log(common))
    log_weights = np.logaddexp.reduce(readings)
    weights = np.exp(log_weights - log_weights.max())
    return weights / weights.sum(), qualities


def _moments(focus: Table, weights: Table) -> tuple[float, float]:
    """Mean and standard deviation of the focus."""
    share = weights.sum(axis=(1, 2))
    mean = float(share @ focus)
    return mean, math.sqrt(max(float(share @ focus**2) - mean**2, 0.0))
