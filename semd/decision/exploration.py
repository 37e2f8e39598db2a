"""Where a run looks that has found nothing yet: where it has not been, instead of where nothing was."""

from __future__ import annotations

from itertools import pairwise

from semd.decision.criteria import is_barren
from semd.decision.rules import RunRules
from semd.domain.axes import Axis
from semd.domain.limits import control_window
from semd.domain.observation import Observation

# A focus shows at half of it: the scale's middle lies 5 to 8 focus units away.
_APART_UNITS = 10.0
_LEAST_STRETCH_UNITS = 12.0


def unseen_wd_mm(frames: tuple[Observation, ...], rules: RunRules) -> float | None:
    """Into a wide and near stretch of the run's window that the run has not seen, as far as can be overlooked at once.

    None while the run has not looked long enough, once it has seen something promising, where nothing is assumed of
    the optics, and where all of the window has been seen.

    Far from focus a frame shows next to nothing, and what little there is may be scored up to 6 here and 1 there. No
    focus explains such scores; but the actor, taught by scores that fall towards both sides, climbs their hills again
    and again.
    """
    if rules.optics is None or len(frames) < rules.lost_steps or not is_barren(frames, rules):
        return None
    start, here_mm = frames[0].parameters, frames[-1].parameters.wd_mm
    window = control_window(rules.limits, rules.optics, start.wd_mm, start.magnification, start.pixel_nm)
    unit_mm = rules.optics.focus_unit_mm(start.magnification, start.pixel_nm)
    apart_mm = _APART_UNITS * unit_mm
    half_mm, limits = window.half_width[Axis.WD], rules.limits[Axis.WD]
    # A focus at an end of the window is seen from one side only: the end counts as if it lay beyond.
    below_mm, above_mm = (limits.clamp(start.wd_mm + side * half_mm) + side * apart_mm / 2.0 for side in (-1.0, 1.0))
    been_mm = sorted([below_mm, *(seen.parameters.wd_mm for seen in frames), above_mm])
    unseen = [
        (low_mm, high_mm) for low_mm, high_mm in pairwise(been_mm) if high_mm - low_mm > _LEAST_STRETCH_UNITS * unit_mm
    ]
    if not unseen:
        return None
    # What is gained less the way there: a run that has entered a stretch goes on in it.
    low_mm, high_mm = max(unseen, key=lambda ends: ends[1] - ends[0] - max(ends[0] - here_mm, here_mm - ends[1], 0.0))
    into_mm = min(apart_mm, (high_mm - low_mm) / 2.0)
    return low_mm + into_mm if here_mm <= low_mm else high_mm - into_mm
