"""The rules of a run: everything a decision depends on beside the frames and the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from semd.decision.constants import CONSTANTS, DecisionConstants
from semd.domain.axes import AXES, Axis
from semd.domain.exposure import ExposureRange
from semd.domain.limits import AxisLimits, Limits, Optics
from semd.domain.reward import RewardWeights

DEFAULT_LIMITS: Mapping[Axis, AxisLimits] = {
    Axis.WD: AxisLimits(2.0, 40.0),
    Axis.BRIGHTNESS: AxisLimits(0.0, 100.0),
    Axis.CONTRAST: AxisLimits(0.0, 100.0),
}


@dataclass(frozen=True, slots=True)
class RunRules:
    """Thresholds and budgets that a configuration or a preset may set.

    Attributes:
        axes: axes the actor may move.
        limits: [L, U] of every axis, equation (4).
        optics: optical assumptions behind the control window; None makes the window the limits, as in the paper.
        n_frames: N of equation (3).
        rho: largest step as a fraction of U - L, equation (5).
        accept_score: omega; a higher score passes.
        fits_focus: True where one focus is fitted to all scores of a run; needs `optics`. Where it is False, each
            score stands alone and `sure_sigmas` decides which to trust.
        sure_share: least probability of passing, by the fit, that ends a run as DONE.
        sure_sigmas: standard deviations by which a score that stands alone must pass to be trusted at once; one that
            passes by less is improved on, or confirmed by another scan. 0 trusts every score.
        exposure: exposure that DONE requires.
        weights: weights of the reward (6).
        max_steps: largest number of frames of a run.
        patience_steps: frames without a new best after which the run returns to its best frame.
        doubt_steps: the same once the best frame passes, but not surely.
        restart_margin: how far below the threshold, in points, a score must fall after the end to begin a new run.
        readback_wd_mm: largest accepted difference between commanded and read working distance.
        readback_fraction: the same for brightness and contrast, as a fraction of U - L.
        constants: numbers that no configuration sets.
    """

    axes: tuple[Axis, ...] = AXES
    limits: Limits = field(default_factory=lambda: DEFAULT_LIMITS)
    optics: Optics | None = field(default_factory=Optics)
    n_frames: int = 5
    rho: float = 0.2
    accept_score: float = 9.0
    fits_focus: bool = True
    sure_share: float = 0.97
    sure_sigmas: float = 2.0
    exposure: ExposureRange = field(default_factory=ExposureRange)
    weights: RewardWeights = field(default_factory=RewardWeights)
    max_steps: int = 50
    patience_steps: int = 7
    doubt_steps: int = 2
    restart_margin: float = 1.0
    readback_wd_mm: float = 0.002
    readback_fraction: float = 0.006
    constants: DecisionConstants = CONSTANTS

    @property
    def controls_exposure(self) -> bool:
        """True where a bad exposure could be corrected."""
        return Axis.BRIGHTNESS in self.axes or Axis.CONTRAST in self.axes

    def readback_tolerance(self, axis: Axis) -> float:
        """Largest accepted difference between commanded and read value, in the axis's unit."""
        if axis is Axis.WD:
            return self.readback_wd_mm
        return self.readback_fraction * self.limits[axis].span
