"""The three controlled axes, and the parameters that a frame was taken with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Axis(StrEnum):
    """A controlled parameter. The order of the members is the order of every 3-vector in semd."""

    WD = "wd"
    BRIGHTNESS = "brightness"
    CONTRAST = "contrast"


AXES: tuple[Axis, ...] = tuple(Axis)


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of one frame as its parameter text gives them, in semd's units (protocol, section 1).

    Attributes:
        magnification: in x, > 0.
        wd_mm: working distance.
        brightness: detector brightness on the instrument's own scale, or None when not written.
        contrast: detector contrast on the instrument's own scale, or None when not written.
        hv_kv: accelerating voltage, or None.
        pixel_nm: pixel size, or None.
        sample: free text naming the sample, or None.
        stage_mm: stage position (x, y) or (x, y, z), or None.
        action_id: id of the last action the microscope applied (read-back), or None.
    """

    magnification: float
    wd_mm: float
    brightness: float | None = None
    contrast: float | None = None
    hv_kv: float | None = None
    pixel_nm: float | None = None
    sample: str | None = None
    stage_mm: tuple[float, ...] | None = None
    action_id: str | None = None

    def value(self, axis: Axis) -> float | None:
        """Return the value of `axis`: mm for the working distance, the instrument's scale otherwise."""
        values: Mapping[Axis, float | None] = {
            Axis.WD: self.wd_mm,
            Axis.BRIGHTNESS: self.brightness,
            Axis.CONTRAST: self.contrast,
        }
        return values[axis]

    def controlled(self, axes: tuple[Axis, ...]) -> dict[Axis, float]:
        """Return the values of `axes`, all of which must have been read."""
        values = {axis: self.value(axis) for axis in axes}
        return {axis: value for axis, value in values.items() if value is not None}
