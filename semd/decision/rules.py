"""The rules of a run: everything a decision depends on beside the frames and the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    """Thresholds and budgets of a run.

    Attributes:
        axes: the axes the actor may move.
        limits: [L, U] of every axis.
        optics: how far a step in WD reaches; None makes the window the limits, as in the paper.
        n_frames: N of equation (3).
        rho: largest step as a fraction of U - L, equation (5).
        accept_score: omega; a score above it passes.
        fits_focus: whether the run's frames are judged together, by one focus that explains all their scores; needs
            `optics`. The rules with `sigmas` are for scores that stand alone.
        sure_share: a frame whose focus passes with this probability is believed to.
        aim_depths: a focus known to so many depths of focus is gone to; until then the actor looks for it.
        side_share: so is one that lies to one side of the frame with this probability.
        overrule_points: by so much a frame's score may be corrected by the run's others.
        sure_sigmas: a score that passes by so many of its standard deviations is believed at once; one that
            passes by less is bettered, or confirmed by another scan. 0 believes every score.
        better_sigmas: so many of its standard deviations a score must lie above the start's to be surely better.
        doubt_points: what a doubt takes off a score when frames are compared.
        exposure: what DONE asks of the exposure.
        weights: of the reward (6).
        max_steps: frames a run may take.
        max_holds: HOLDs in a row before GIVE-UP.
        patience_steps: frames without a new best after which the run goes back to the best.
        doubt_steps: the same once the best passes, but not surely.
        barren_steps: frames without a promising one before GIVE-UP.
        barren_score: a score surely above this is promising. Noise and smooth gradients may look like much defocus and
            be scored up to 5.7, detail that is hardly there up to 8.5 with an error to match; ordinary fields are above
            long before its `barren_steps` are spent.
        lost_steps: frames after which a run that knows nothing of the focus goes where it has not been.
        lost_depths: a focus that is not even known to so many depths of focus is not known at all.
        restart_margin: how far below the threshold a score must fall after the end to start a new run.
        readback_wd_mm: largest difference between commanded and read working distance.
        readback_fraction: the same for brightness and contrast, as a fraction of U - L.
    """

    axes: tuple[Axis, ...] = AXES
    limits: Limits = field(default_factory=lambda: DEFAULT_LIMITS)
    optics: Optics | None = field(default_factory=Optics)
    n_frames: int = 5
    rho: float = 0.2
    accept_score: float = 9.0
    fits_focus: bool = True
    sure_share: float = 0.97
    aim_depths: float = 1.5
    side_share: float = 0.9
    overrule_points: float = 0.1
    sure_sigmas: float = 2.0
    better_sigmas: float = 1.0
    exposure: ExposureRange = field(default_factory=ExposureRange)
    weights: RewardWeights = field(default_factory=RewardWeights)
    doubt_points: float = 3.0
    max_steps: int = 50
    max_holds: int = 3
    patience_steps: int = 7
    doubt_steps: int = 2
    barren_steps: int = 15
    barren_score: float = 7.0
    lost_steps: int = 7
    lost_depths: float = 10.0
    restart_margin: float = 1.0
    readback_wd_mm: float = 0.002
    readback_fraction: float = 0.006

    @property
    def controls_exposure(self) -> bool:
        """Whether a bad exposure could be mended at all."""
        return Axis.BRIGHTNESS in self.axes or Axis.CONTRAST in self.axes

    def readback_tolerance(self, axis: Axis) -> float:
        """Largest difference between commanded and read value, in the axis's unit."""
        if axis is Axis.WD:
            return self.readback_wd_mm
        return self.readback_fraction * self.limits[axis].span
