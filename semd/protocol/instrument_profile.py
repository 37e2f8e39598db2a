"""Instrument profiles: hard limits of a microscope's axes, whatever the configuration says.

`[limits]` is edited often; a profile is chosen once. A mistake in the former cannot exceed the latter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from semd.domain.axes import AXES, Axis
from semd.domain.limits import AxisLimits, Limits
from semd.protocol.action import round_target


@dataclass(frozen=True, slots=True)
class InstrumentProfile:
    """The hard limits of one kind of instrument.

    Attributes:
        name: as `[instrument] profile` names it, or the custom file does.
        bounds: lowest and highest setting of every axis: mm for WD, the instrument's own scale otherwise.
    """

    name: str
    bounds: Limits

    def faults(self, values: Mapping[Axis, float]) -> list[str]:
        """Name the values that lie beyond the bounds or are not numbers; empty when none does.

        The bounds are rounded to the decimals of an action file, so that a value clamped to a bound passes.
        """
        found = []
        for axis, value in values.items():
            low, high = (round_target(axis, bound) for bound in (self.bounds[axis].low, self.bounds[axis].high))
            if not low <= value <= high:
                found.append(
                    f"{axis.upper()}={value:g} is beyond what the instrument profile {self.name!r} allows, "
                    f"{low:g} to {high:g}"
                )
        return found


def _profile(name: str, wd_mm: AxisLimits, brightness: AxisLimits, contrast: AxisLimits) -> InstrumentProfile:
    return InstrumentProfile(name, dict(zip(AXES, (wd_mm, brightness, contrast), strict=True)))


_OWN_SCALE = AxisLimits(-1e6, 1e6)
_PERCENT = AxisLimits(0.0, 100.0)

GENERIC = _profile("generic", AxisLimits(0.0, 1000.0), _OWN_SCALE, _OWN_SCALE)
"""Any microscope: refuses only what no instrument can do. Makers scale brightness and contrast differently."""

COXEM_EM30 = _profile("coxem-em30", AxisLimits(2.0, 40.0), _PERCENT, _PERCENT)
"""A tabletop column. The maker publishes no figures: below 2 mm a sample nearly touches the pole piece, and 40 mm
leaves room for the 12.5 mm window of published focus sweeps at any sample height."""

BUILT_IN: Mapping[str, InstrumentProfile] = {profile.name: profile for profile in (GENERIC, COXEM_EM30)}
