"""Stripes along the scan lines: charging draws them anew in each scan, the sample's own stay where they are."""

from __future__ import annotations

from dataclasses import replace
from statistics import StatisticsError, correlation

from semd.decision.rules import RunRules
from semd.domain.frame_score import QualityFlag
from semd.domain.observation import Measurement, Observation


def without_own_stripes(frames: tuple[Observation, ...], rules: RunRules) -> tuple[Observation, ...]:
    """Clear the flag `striped` on frames whose stripes another frame of the run shows again.

    Scratches, layers and steps may lie along the scan and look like charging in a single frame. Stripes that a second
    scan shows in the same lines belong to the sample, whatever the settings were meanwhile.
    """
    striped = [frame for frame in frames if frame.measurement is not None and frame.measurement.stripes]
    if len(striped) < 2:
        return frames
    least = rules.constants.same_stripes_correlation
    return tuple(
        _cleared(frame)
        if any(other is not frame and _correlation(frame, other) >= least for other in striped)
        else frame
        for frame in frames
    )


def _correlation(frame: Observation, other: Observation) -> float:
    """Correlation of two frames' stripe profiles, -1..1; 0 where there are none to compare."""
    one, another = frame.measurement, other.measurement
    if one is None or another is None:
        return 0.0
    try:
        return correlation(one.stripes, another.stripes)
    except StatisticsError:
        return 0.0


def _cleared(frame: Observation) -> Observation:
    measurement = frame.measurement
    if measurement is None:
        return frame
    return replace(frame, measurement=_without_striped(measurement))


def _without_striped(measurement: Measurement) -> Measurement:
    return replace(measurement, flags=tuple(flag for flag in measurement.flags if flag is not QualityFlag.STRIPED))
