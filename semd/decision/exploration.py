"""Explore unvisited working distances while the focus is unknown."""

from __future__ import annotations

from itertools import pairwise

from semd.decision.judged_frame import JudgedFrame
from semd.decision.rules import RunRules
from semd.domain.axes import Axis
from semd.domain.limits import Optics, Window


def unvisited_wd_mm(frames: tuple[JudgedFrame, ...], window: Window, optics: Optics, rules: RunRules) -> float | None:
    """Working distance inside a wide and near stretch of the window that the run has not visited.

    Far from focus a frame shows next to nothing, and that may be scored up to 6 here and 1 there. No focus explains
    such scores, but the actor, trained on scores that fall towards both sides, climbs them again and again.

    Args:
        frames: frames of a run that found nothing promising, oldest first.
        window: the run's control window.
        optics: optical assumptions, which give the focus unit.
        rules: limits and constants.

    Returns:
        None where every stretch of the window has been visited.
    """
    constants = rules.constants
    start, here_mm = frames[0].parameters, frames[-1].parameters.wd_mm
    unit_mm = optics.focus_unit_mm(start.magnification, start.pixel_nm)
    visited_mm = constants.visited_units * unit_mm
    half_mm, limits = window.half_width[Axis.WD], rules.limits[Axis.WD]
    # A focus at an end of the window shows from one side only: the end counts as if it lay beyond.
    below_mm, above_mm = (limits.clamp(start.wd_mm + side * half_mm) + side * visited_mm / 2.0 for side in (-1.0, 1.0))
    places_mm = sorted([below_mm, *(frame.parameters.wd_mm for frame in frames), above_mm])
    least_mm = constants.least_stretch_units * unit_mm
    stretches = [(low_mm, high_mm) for low_mm, high_mm in pairwise(places_mm) if high_mm - low_mm > least_mm]
    if not stretches:
        return None
    # Width gained less the way there: a run that has entered a stretch goes on in it.
    low_mm, high_mm = max(
        stretches, key=lambda ends: ends[1] - ends[0] - max(ends[0] - here_mm, here_mm - ends[1], 0.0)
    )
    into_mm = min(visited_mm, (high_mm - low_mm) / 2.0)
    return low_mm + into_mm if here_mm <= low_mm else high_mm - into_mm
