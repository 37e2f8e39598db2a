"""Comparison of settings: read back as commanded, of the same field, or of the same settings as another frame."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from semd.decision.rules import RunRules
from semd.domain.axes import Axis, Parameters
from semd.domain.limits import FRAME_WIDTH_PX


class Change(Enum):
    """Difference between the settings of a frame and those that its run asked for."""

    NONE = auto()
    FIELD = auto()
    READ_BACK = auto()


def detect_change(last: Parameters, targets: Mapping[Axis, float], now: Parameters, rules: RunRules) -> Change:
    """Compare a frame with the run that it would continue.

    Args:
        last: parameters of the run's last frame.
        targets: what was asked for then.
        now: parameters of the new frame.
        rules: axes and tolerances.
    """
    if field_changed(last, now, rules):
        return Change.FIELD
    return Change.READ_BACK if differs(targets, now, rules) else Change.NONE


def field_changed(last: Parameters, now: Parameters, rules: RunRules) -> bool:
    """Return True if MAG, SAMPLE or STAGE say that this is another field (protocol, section 4)."""
    if now.magnification != last.magnification or now.sample != last.sample:
        return True
    if now.stage_mm is None or last.stage_mm is None:
        return now.stage_mm is not last.stage_mm
    optics = rules.optics
    pixel_mm = (now.pixel_nm or 0.0) * 1e-6 or (optics.pixel_mm(now.magnification) if optics else 0.0)
    return math.dist(now.stage_mm[:2], last.stage_mm[:2]) > pixel_mm * FRAME_WIDTH_PX


def differs(targets: Mapping[Axis, float], now: Parameters, rules: RunRules) -> bool:
    """Return True if a controlled parameter does not read back as commanded."""
    values = now.controlled(rules.axes)
    return any(
        axis in values and abs(values[axis] - target) > rules.readback_tolerance(axis)
        for axis, target in targets.items()
    )


@dataclass(frozen=True, slots=True)
class SettingsComparison:
    """Frames of a run that were taken with the same settings, within the read-back tolerance.

    Attributes:
        same: True where frames i and j have the same controlled settings, bool (n, n).
        at_start: True where a frame has the run's first working distance, bool (n,).
    """

    same: NDArray[np.bool_]
    at_start: NDArray[np.bool_]


def compare_settings(frames: Sequence[Parameters], start_wd_mm: float, rules: RunRules) -> SettingsComparison:
    """Compare the settings of all frames of a run with each other and with its first working distance.

    Args:
        frames: parameters of n frames, oldest first.
        start_wd_mm: working distance that counts as the start.
        rules: axes and tolerances.
    """
    # An axis that a frame does not name is not a number here, and never differs.
    values = np.array([[_value(each, axis) for axis in rules.axes] for each in frames])
    tolerances = np.array([rules.readback_tolerance(axis) for axis in rules.axes])
    same = ~(np.abs(values[:, None] - values) > tolerances).any(axis=2)
    if Axis.WD not in rules.axes:
        return SettingsComparison(same, np.ones(len(frames), np.bool_))
    wd_mm = values[:, rules.axes.index(Axis.WD)]
    return SettingsComparison(same, ~(np.abs(wd_mm - start_wd_mm) > rules.readback_wd_mm))


def _value(parameters: Parameters, axis: Axis) -> float:
    value = parameters.value(axis)
    return math.nan if value is None else value
