"""Feature-level twin for runs under the daemon's own rules: many microscopes at once, without rendering frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semd.decision.rules import RunRules
from semd.domain.axes import Axis, Parameters
from semd.domain.exposure import Exposure
from semd.domain.features import Features
from semd.domain.limits import Optics
from semd.domain.observation import Measurement, Observation
from semd.protocol.action import round_target
from semd.simulator.twin_frames import Frames, take_frames
from semd.simulator.twin_scene import SHIPPED_SCORER, Column, SceneRanges, Scenes, draw_scenes

# Nominal parameters of every frame; scenes draw their tolerated blur themselves, and lengths are relative to it.
_MAGNIFICATION = 2000.0
_START_WD_MM = 15.0
_PIXELS = 640 * 480


@dataclass(frozen=True, slots=True)
class TwinTruth:
    """Ground truth of B frames.

    Attributes:
        score: the expert's score, float64 (B,).
        start_score: the score now at the start's settings, float64 (B,); it changes because the focus drifts.
        exposure_ok: True where brightness and contrast truly suit the field, bool (B,).
    """

    score: Column
    start_score: Column
    exposure_ok: NDArray[np.bool_]


class TwinMicroscopes:
    """B microscopes, each on its own scene, with the read-back and the absolute moves of the real instrument.

    Attributes:
        scenes: their scenes.
    """

    def __init__(self, count: int, rules: RunRules, seed: int, ranges: SceneRanges = SHIPPED_SCORER) -> None:
        """Draw the scenes and the start settings.

        Args:
            count: number of microscopes, B.
            rules: rules of the runs; the score error is larger outside their exposure range.
            seed: seed of all draws.
            ranges: ranges of the scenes.
        """
        self._rules = rules
        self._rng = np.random.default_rng(seed)
        self.scenes: Scenes = draw_scenes(count, ranges, self._rng)
        self._unit_mm = (rules.optics or Optics()).focus_unit_mm(_MAGNIFICATION)
        low = [rules.limits[axis].low for axis in (Axis.BRIGHTNESS, Axis.CONTRAST)]
        high = [rules.limits[axis].high for axis in (Axis.BRIGHTNESS, Axis.CONTRAST)]
        self._knobs = np.column_stack(
            (np.full(count, _START_WD_MM), np.round(self._rng.uniform(low, high, (count, 2)), 3))
        )
        self._start = self._knobs.copy()
        self._lag_u = np.zeros(count)
        # A calibrated sigma equals the true error; near focus that is bias and noise.
        self._sigma = np.hypot(ranges.score_bias, self.scenes.score_noise)
        self._frames: Frames

    @property
    def count(self) -> int:
        """Number of microscopes, B."""
        return len(self._lag_u)

    def scan(self) -> TwinTruth:
        """Scan with all microscopes after one step of focus drift; returns the ground truth of the B frames."""
        scenes = self.scenes
        scenes.focus_u += scenes.drift_u * self._rng.standard_normal(len(self._lag_u))
        self._frames = self._take(self._knobs, self._lag_u)
        untouched = self._take(self._start, np.zeros_like(self._lag_u))
        return TwinTruth(self._frames.true_score, untouched.true_score, self._frames.exposure_ok)

    def _take(self, knobs: Column, lag_u: Column) -> Frames:
        wd_mm, brightness, contrast = knobs.T
        wd_u = (wd_mm - _START_WD_MM) / self._unit_mm
        return take_frames(self.scenes, wd_u + lag_u, brightness, contrast, self._rules.exposure, self._rng)

    def observation(self, row: int, name: str) -> Observation:
        """Observation of one microscope's latest frame, as the daemon would measure it."""
        frames = self._frames
        wd_mm, brightness, contrast = (float(value) for value in self._knobs[row])
        return Observation(
            name,
            Parameters(_MAGNIFICATION, wd_mm, brightness, contrast),
            Measurement(
                score=float(frames.score[row]),
                features=Features(
                    avg=127.5 * (float(frames.avg[row]) + 1.0),
                    grd=float(frames.grd[row]) ** 2 * 255.0 * _PIXELS,
                    var=(127.5 * float(frames.var[row])) ** 2,
                    pixels=_PIXELS,
                ),
                exposure=Exposure(
                    float(frames.black[row]),
                    float(frames.white[row]),
                    float(frames.level[row]),
                    float(frames.contrast[row]),
                ),
                sigma=float(self._sigma[row]),
            ),
        )

    def apply(self, row: int, targets: Mapping[Axis, float]) -> None:
        """Move the knobs of one microscope to absolute targets, rounded as the parameter text rounds them."""
        for place, axis in enumerate((Axis.WD, Axis.BRIGHTNESS, Axis.CONTRAST)):
            if axis in targets:
                target = round_target(axis, targets[axis])
                if axis is Axis.WD and target != self._knobs[row, place]:
                    self._lag_u[row] = -np.sign(target - self._knobs[row, place]) * self.scenes.backlash_u[row]
                self._knobs[row, place] = target
