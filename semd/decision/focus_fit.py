"""Fit one focus to all scores of a run: where the focus lies, and how sharp each frame is.

A score errs by its field: scanned again with the same settings, a frame is misjudged in the same way, so a repeated
scan confirms next to nothing. At another blur the same field errs anew. The working distances are known, and with the
defocus disc `2 alpha |WD - f|` and the experts' scale one focus `f` explains all scores of a run, or does not:

    s_i = t - h (10 - q_i) + e_i,   q_i = q(sqrt(x_i**2 + a**2)),   x_i = k (WD_i - f) / u

`q` is the scale of `expert_scale` and `u` the focus unit assumed of the column. The factor `k` corrects what was
assumed wrongly of the column (aperture, pixel size). The rest `a` is the blur that no working distance removes (spot,
astigmatism); both are in units of the blur that experts tolerate. The scoring machine may misread a sample throughout:
its top score `t` is then below 10, or it counts only a share `h` of the points that blur costs; or it takes noise far
from focus for detail. The errors `e` have the standard deviations that the scoring machine expects, larger ones where
these are unusual, and are correlated as `DecisionConstants` says. The unknowns are laid on a grid for Bayes' rule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semd.decision.constants import DecisionConstants
from semd.decision.judged_frame import JudgedFrame
from semd.decision.rules import RunRules
from semd.domain.axes import Axis
from semd.domain.expert_scale import quality_slope

Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FocusEstimate:
    """Posterior of the focus, and the quality of each frame that it implies.

    Attributes:
        wd_mm: expected working distance of the focus.
        sigma_mm: its standard deviation.
        depth_mm: depth of focus, the defocus that experts tolerate, corrected by the run's own frames.
        members: indices of the n frames that took part.
        quality: expected focus quality of each of these in points, (n,).
        sigma: its standard deviation in points, (n,).
        passing: probability that it exceeds the threshold, (n,).
        grid_mm: working distances that the focus may have, ascending, (F,).
        probability: probability of each, (F,).
    """

    wd_mm: float
    sigma_mm: float
    depth_mm: float
    members: tuple[int, ...]
    quality: Table
    sigma: Table
    passing: Table
    grid_mm: Table
    probability: Table

    def beside(self, wd_mm: float, side: float) -> tuple[float, float]:
        """Probability that the focus lies above (`side` > 0) or below `wd_mm`, and its median there, mm."""
        share = np.where((self.grid_mm - wd_mm) * side > 0.0, self.probability, 0.0)
        total = float(share.sum())
        median_mm = float(np.interp(0.5 * total, np.cumsum(share) - 0.5 * share, self.grid_mm))
        return total, median_mm if total > 0.0 else wd_mm


def fit_focus(frames: tuple[JudgedFrame, ...], rules: RunRules) -> FocusEstimate | None:
    """Fit the focus to the frames of a run.

    Returns:
        None where the rules do not ask for the fit, nothing is assumed of the optics, the working distance is not
        controlled, or no frame can be used: recognised, and without a quality flag.
    """
    if not rules.fits_focus or rules.optics is None or Axis.WD not in rules.axes:
        return None
    constants = rules.constants
    used = [
        (i, each) for i, each in enumerate(frames) if not each.flagged and each.score >= constants.least_fitted_score
    ]
    if not used:
        return None
    start = frames[0].parameters
    unit_mm = rules.optics.focus_unit_mm(start.magnification, start.pixel_nm)
    model = _Model(
        wd_units=np.array([(each.parameters.wd_mm - start.wd_mm) / unit_mm for _, each in used]),
        points=np.array([each.score for _, each in used]),
        sigma=np.array([each.fit_sigma for _, each in used]),
        may_stray=np.array([_may_stray(each.own_sigma, constants) for _, each in used]),
        slope=quality_slope(start.magnification),
        constants=constants,
    )
    focus, weights, qualities = _two_stage_posterior(model, constants.beyond_window * rules.optics.window / 2.0)
    mean, sigma = _moments(focus, weights)
    probability, quality = weights.reshape(-1), qualities.reshape(weights.size, -1)
    expected = probability @ quality
    return FocusEstimate(
        wd_mm=start.wd_mm + mean * unit_mm,
        sigma_mm=sigma * unit_mm,
        depth_mm=unit_mm * float(weights.sum(axis=(0, 2)) @ (1.0 / model.factors)),
        members=tuple(i for i, _ in used),
        quality=expected,
        sigma=np.sqrt(np.maximum(probability @ quality**2 - expected**2, 0.0)),
        passing=probability @ (quality > rules.accept_score),
        grid_mm=start.wd_mm + focus * unit_mm,
        probability=weights.sum(axis=(1, 2)),
    )


class _Model:
    """Scores of n frames and everything about their likelihood that does not depend on the focus."""

    def __init__(
        self,
        *,
        wd_units: Table,
        points: Table,
        sigma: Table,
        may_stray: Table,
        slope: float,
        constants: DecisionConstants,
    ) -> None:
        """Prepare the grids of the factor and of the rest, and the whitening of the errors.

        Args:
            wd_units: working distances less the start's, in focus units, (n,).
            points: scores, (n,).
            sigma: standard deviations of the scores about the focus quality, (n,).
            may_stray: 1 where a score could be that of noise far from focus, 0 where not, (n,).
            slope: points lost per octave of the scale.
            constants: of the decision.
        """
        self.wd_units, self.points, self.sigma, self.may_stray = wd_units, points, sigma, may_stray
        self._slope, self._constants = slope, constants
        reach = constants.factor_reach_sigmas
        deviations = np.linspace(-reach, reach, constants.factor_points)
        self.factors: Table = np.exp(constants.factor_log_sigma * deviations)
        self._rests = np.array(constants.rest_blurs)
        self._prior: Table = (-0.5 * deviations**2)[:, None] + np.log(constants.rest_probabilities)
        self._whitener = self._whitening().T

    def posterior(self, focus: Table) -> tuple[Table, Table]:
        """Probability of each focus, factor and rest, (F, K, A), and the qualities they imply, (F, K, A, n)."""
        c = self._constants
        offset = (self.wd_units - focus[:, None])[:, None, None, :] * self.factors[:, None, None]
        qualities = np.maximum(1.0, 10.0 - self._slope * np.log2(1.0 + offset**2 + (self._rests**2)[:, None]))
        stray = self.may_stray * np.maximum(c.recognised_quality - qualities, 0.0) / (c.recognised_quality - 1.0)
        log_likelihoods = []
        for reading in c.readings:
            expected, sigma = reading.top_score - reading.counted_share * (10.0 - qualities), self.sigma
            if reading.strays_far_off:
                expected, sigma = expected + c.stray_points * stray, np.hypot(sigma, c.stray_sigma_points * stray)
            errors = (self.points - expected) / sigma @ self._whitener
            log_t = -0.5 * (c.error_freedom + 1.0) * np.log1p(errors**2 / c.error_freedom) - np.log(sigma / self.sigma)
            log_likelihoods.append(log_t.sum(axis=-1) + self._prior + math.log(reading.probability))
        log_weights = np.logaddexp.reduce(log_likelihoods)
        weights = np.exp(log_weights - log_weights.max())
        return weights / weights.sum(), qualities

    def _whitening(self) -> Table:
        """Matrix that makes the errors, in their standard deviations, independent, (n, n)."""
        c = self._constants
        apart = np.abs(self.points[:, None] - self.points) / c.error_decay_points
        apart = apart + np.abs(self.wd_units[:, None] - self.wd_units) / c.error_decay_units
        correlation = c.repeated_error_correlation * np.exp(-apart)
        np.fill_diagonal(correlation, 1.0)
        return np.asarray(np.linalg.inv(np.linalg.cholesky(correlation)))


def _two_stage_posterior(model: _Model, reach_units: float) -> tuple[Table, Table, Table]:
    """Posterior on a coarse grid over the window, then on a fine one where the focus is likely.

    Returns:
        The fine grid in focus units, (F,), and the two tables of `_Model.posterior` on it.
    """
    c = model._constants
    low = min(-reach_units, float(model.wd_units.min()))
    high = max(reach_units, float(model.wd_units.max()))
    coarse = np.arange(low, high + c.coarse_step_units, c.coarse_step_units)
    mean, sigma = _moments(coarse, model.posterior(coarse)[0])
    half = max(c.fine_reach_sigmas * sigma, 2.0 * c.coarse_step_units)
    fine = np.linspace(max(mean - half, low), min(mean + half, high), c.fine_points)
    return fine, *model.posterior(fine)


def _moments(focus: Table, weights: Table) -> tuple[float, float]:
    """Mean and standard deviation of the focus."""
    share = weights.sum(axis=(1, 2))
    mean = float(share @ focus)
    return mean, math.sqrt(max(float(share @ focus**2) - mean**2, 0.0))


def _may_stray(sigma_points: float, constants: DecisionConstants) -> float:
    sure, unsure = constants.surely_read_sigma_points, constants.surely_stray_sigma_points
    return min(max((sigma_points - sure) / (unsure - sure), 0.0), 1.0)
