"""Whether stripes along the scan lines are charging's, which are drawn anew by each scan, or the sample's own."""

from __future__ import annotations

from dataclasses import replace
from statistics import StatisticsError, correlation

from semd.domain.frame_score import Doubt
from semd.domain.observation import Measurement, Observation

# Stripes of two scans that have nothing to do with each other agree by 0 +- 0.16.
_SAME_STRIPES = 0.9


def without_own_stripes(frames: tuple[Observation, ...]) -> tuple[Observation, ...]:
    """The frames of a run, less the doubts about stripes that another of them has shown again.

    Scratches, layers and steps may lie along the scan and look like charging in one frame. Charging does not wait
    for the next scan: what stands in the same lines again belongs to the sample, whatever the settings were meanwhile.
    """
    striped = [seen for seen in frames if seen.measurement is not None and seen.measurement.stripes]
    if len(striped) < 2:
        return frames
    return tuple(
        _cleared(seen) if any(_shows_again(seen, other) for other in striped if other is not seen) else seen
        for seen in frames
    )


def _shows_again(seen: Observation, other: Observation) -> bool:
    one, another = seen.measurement, other.measurement
    return one is not None and another is not None and _agreement(one, another) >= _SAME_STRIPES


def _agreement(one: Measurement, other: Measurement) -> float:
    """Correlation of two frames' stripes, -1..1; 0 where there are none to compare."""
    try:
        return correlation(one.stripes, other.stripes)
    except StatisticsError:
        return 0.0


def _cleared(seen: Observation) -> Observation:
    if seen.measurement is None:
        return seen
    doubts = tuple(doubt for doubt in seen.measurement.doubts if doubt is not Doubt.STRIPED)
    return replace(seen, measurement=replace(seen.measurement, doubts=doubts))
