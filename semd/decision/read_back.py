"""Whether settings are other than they should be: other than commanded, or those of another field."""

from __future__ import annotations

import math
from collections.abc import Mapping

from semd.decision.rules import RunRules
from semd.domain.axes import Axis, Parameters
from semd.domain.limits import FRAME_WIDTH_PX


def field_changed(last: Parameters, now: Parameters, rules: RunRules) -> bool:
    """Whether MAG, SAMPLE or STAGE say that this is another field."""
    if now.magnification != last.magnification or now.sample != last.sample:
        return True
    if now.stage_mm is None or last.stage_mm is None:
        return now.stage_mm is not last.stage_mm
    optics = rules.optics
    pixel_mm = (now.pixel_nm or 0.0) * 1e-6 or (optics.pixel_mm(now.magnification) if optics else 0.0)
    return math.dist(now.stage_mm[:2], last.stage_mm[:2]) > pixel_mm * FRAME_WIDTH_PX


def differs(targets: Mapping[Axis, float], now: Parameters, rules: RunRules) -> bool:
    """Whether a parameter does not read back as commanded: the operator turned it, or it never moved."""
    values = now.controlled(rules.axes)
    return any(
        axis in values and abs(values[axis] - target) > rules.readback_tolerance(axis)
        for axis, target in targets.items()
    )
