"""Instrument profiles: how far the knobs of a microscope may go at all, whatever the configuration says.

`[limits]` is edited often; a profile is chosen once. A slip in the former cannot get past the latter.
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
        """Say which values lie beyond the bounds, or are no numbers; empty when none does.

        The bounds count as an action file writes them, in so many decimals: what was clamped to a bound passes.
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
"""Any microscope: stops only what no instrument has. Scales of brightness and contrast differ between makers."""

COXEM_EM30 = _profile("coxem-em30", AxisLimits(2.0, 40.0), _PERCENT, _PERCENT)
"""A tabletop column. The maker publishes no figures: below 2 mm a sample is all but at the pole piece, and 40 mm is
more than the 12.5 mm window of known focus sweeps needs, from whichever height of sample it starts."""

BUILT_IN: Mapping[str, InstrumentProfile] = {profile.name: profile for profile in (GENERIC, COXEM_EM30)}
