"""Limits of the axes, equations (4) and (5), and the control window that the networks see as [-1, 1]."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from semd.domain.axes import AXES, Axis

REFERENCE_WIDTH_MM = 127.0
"""Field width at x1, the photographic convention; Coxem's own constant is not public."""

FRAME_WIDTH_PX = 640


@dataclass(frozen=True, slots=True)
class AxisLimits:
    """The interval [L, U] of an axis, in the axis's own unit."""

    low: float
    high: float

    @property
    def span(self) -> float:
        """U - L."""
        return self.high - self.low

    def clamp(self, value: float) -> float:
        """Equation (4): the value nearest to `value` within [L, U]."""
        return min(max(value, self.low), self.high)


Limits = Mapping[Axis, AxisLimits]


@dataclass(frozen=True, slots=True)
class Optics:
    """Optical assumptions about the column, which relate a step in working distance to a blur.

    Attributes:
        aperture_half_angle_mrad: alpha; the defocus disc's diameter is 2 * alpha * |WD - WD_focus|.
        reference_width_mm: field width at x1, used when the text names no pixel size.
        tolerated_blur_px: disc diameter at x500 that an expert tolerates.
        window: width of the control window in units of `focus_unit_mm`.
    """

    aperture_half_angle_mrad: float = 3.0
    reference_width_mm: float = REFERENCE_WIDTH_MM
    tolerated_blur_px: float = 2.0
    window: float = 60.0

    def pixel_mm(self, magnification: float, pixel_nm: float | None = None) -> float:
        """Pixel size in mm: as read, else from the magnification."""
        if pixel_nm is not None:
            return pixel_nm * 1e-6
        return self.reference_width_mm / magnification / FRAME_WIDTH_PX

    def focus_unit_mm(self, magnification: float, pixel_nm: float | None = None) -> float:
        """Defocus in mm whose disc has the diameter that an expert tolerates at this magnification.

        The tolerated diameter grows with the square root of the magnification. In this unit a focus 7 um wide at x10000
        and one 130 um wide at x500 are the same task for the actor.
        """
        tolerated_px = self.tolerated_blur_px * math.sqrt(magnification / 500.0)
        disc_mm = tolerated_px * self.pixel_mm(magnification, pixel_nm)
        return disc_mm / (2.0 * self.aperture_half_angle_mrad * 1e-3)


@dataclass(frozen=True, slots=True)
class Window:
    """The intervals that the networks see as [-1, 1], one for each axis, and the step bound of (5).

    Attributes:
        centre: middle of each interval, in the axis's unit.
        half_width: half of U - L of each interval, in the axis's unit, > 0.
    """

    centre: Mapping[Axis, float]
    half_width: Mapping[Axis, float]

    def normalise(self, axis: Axis, value: float) -> float:
        """Map a value to the networks' scale: -1 at the lower end, +1 at the upper end."""
        return (value - self.centre[axis]) / self.half_width[axis]

    def step(self, axis: Axis, normalised_delta: float, rho: float) -> float:
        """Equation (5): a step in the axis's unit, bounded by rho * (U - L) whatever the network says.

        A delta that is not a number gives a step of 0.
        """
        if math.isnan(normalised_delta):
            return 0.0
        bound = 2.0 * rho  # U - L is 2 on the networks' scale
        return max(-bound, min(bound, normalised_delta)) * self.half_width[axis]


def control_window(
    limits: Limits, optics: Optics | None, start_wd_mm: float, magnification: float, pixel_nm: float | None
) -> Window:
    """Build the window of a run from its first frame.

    Brightness and contrast use their limits. The working distance uses `optics.window` focus units around
    the run's first frame, never wider than its limits; with `optics` None (preset `paper`) its limits.
    """
    centre = {axis: (limits[axis].low + limits[axis].high) / 2.0 for axis in AXES}
    half_width = {axis: limits[axis].span / 2.0 for axis in AXES}
    if optics is not None:
        half = optics.window * optics.focus_unit_mm(magnification, pixel_nm) / 2.0
        centre[Axis.WD] = start_wd_mm
        half_width[Axis.WD] = min(half, half_width[Axis.WD])
    return Window(centre=centre, half_width=half_width)
