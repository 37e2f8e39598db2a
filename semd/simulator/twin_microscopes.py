"""The feature-level twin under the daemon's own rules: many runs at once, frame by frame, without a pixel."""

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

# What the parameter text says; the scenes draw their own leniency, and everything else is relative to it.
_MAGNIFICATION = 2000.0
_START_WD_MM = 15.0
_PIXELS = 640 * 480


@dataclass(frozen=True, slots=True)
class TwinTruth:
    """Ground truth of B frames.

    Attributes:
        score: the expert's score, float64 (B,).
        start_score: what it would be now with the knobs as they were at the start: the focus walks by itself.
        exposure_ok: True where brightness and contrast suit the field, bool (B,).
    """

    score: Column
    start_score: Column
    exposure_ok: NDArray[np.bool_]


class TwinMicroscopes:
    """B microscopes, each on a scene of its own, that read back and are moved like the real one.

    Attributes:
        scenes: what they look at.
    """

    def __init__(self, count: int, rules: RunRules, seed: int, ranges: SceneRanges = SHIPPED_SCORER) -> None:
        """Draw the scenes and starts.

        Args:
            count: B.
            rules: of the runs; the scorer errs more outside their exposure.
            seed: of everything drawn.
            ranges: how varied the scenes are.
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
        # A well calibrated scoring machine says how wrong it is: near focus by its bias there and its noise.
        self._sigma = np.hypot(ranges.score_bias, self.scenes.score_noise)
        self._frames: Frames

    @property
    def count(self) -> int:
        """B."""
        return len(self._lag_u)

    def scan(self) -> TwinTruth:
        """Scan with all microscopes; the focus walks a little between scans."""
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
        """Observation of one microscope's last frame, as the daemon would measure it."""
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
        """Move one microscope's knobs to absolute targets."""
        for place, axis in enumerate((Axis.WD, Axis.BRIGHTNESS, Axis.CONTRAST)):
            if axis in targets:
                target = round_target(axis, targets[axis])
                if axis is Axis.WD and target != self._knobs[row, place]:
                    self._lag_u[row] = -np.sign(target - self._knobs[row, place]) * self.scenes.backlash_u[row]
                self._knobs[row, place] = target
