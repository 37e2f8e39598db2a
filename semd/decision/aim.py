"""Next targets of a run that goes on: the actor's step, the fitted focus, its flanks, or unvisited distances."""

from __future__ import annotations

from semd.decision.assessment import Assessment, FocusView
from semd.decision.exploration import unvisited_wd_mm
from semd.decision.focus_fit import FocusEstimate
from semd.decision.rules import RunRules
from semd.decision.run import Policy, run_state, run_window
from semd.domain.axes import AXES, Axis
from semd.domain.limits import Window


def next_targets(assessment: Assessment, rules: RunRules, policy: Policy) -> dict[Axis, float]:
    """Targets of an ADJUST, equations (4) and (5).

    The actor's step is bounded whatever it says. Where the working distance is better known from the run's frames, it
    is taken from them. A good exposure is kept once the focus is known: the actor, which still searches for the focus,
    might walk out of it again.
    """
    start = assessment.run.start if assessment.run is not None else assessment.frame.parameters
    window = run_window(start, rules)
    steps = policy(run_state(assessment.observations, window, rules))
    now = assessment.frame.parameters.controlled(rules.axes)
    deltas = {axis: float(steps[AXES.index(axis)]) for axis in now}
    if Axis.WD in now:
        if assessment.keeps_focus:
            deltas[Axis.WD] = 0.0
        actor_mm = now[Axis.WD] + window.step(Axis.WD, deltas[Axis.WD], rules.rho)
        wd_mm = next_wd_mm(assessment, actor_mm, window, rules)
        deltas[Axis.WD] = (wd_mm - now[Axis.WD]) / window.half_width[Axis.WD]
    if assessment.view is not None and assessment.view.known and assessment.exposed:
        deltas |= {axis: 0.0 for axis in now if axis is not Axis.WD}
    return {
        axis: rules.limits[axis].clamp(now[axis] + window.step(axis, delta, rules.rho))
        for axis, delta in deltas.items()
    }


def next_wd_mm(assessment: Assessment, actor_mm: float, window: Window, rules: RunRules) -> float:
    """Working distance to go to.

    Where the focus is known, or at least the side it lies on, the run goes there. Else the actor searches, and once it
    has long found nothing, the run explores unvisited working distances.

    Args:
        assessment: of the last frame.
        actor_mm: working distance that the actor's step leads to.
        window: the run's control window.
        rules: thresholds and constants.
    """
    searching_mm = actor_mm
    is_searched = len(assessment.measured) >= rules.constants.lost_steps and assessment.barren
    if assessment.lost and is_searched and rules.optics is not None:
        unvisited_mm = unvisited_wd_mm(assessment.measured, window, rules.optics, rules)
        searching_mm = actor_mm if unvisited_mm is None else unvisited_mm
    focus, view = assessment.focus, assessment.view
    if focus is None or view is None:
        return searching_mm
    if not view.known:
        here_mm = assessment.frame.parameters.wd_mm
        probability, there_mm = max(focus.beside(here_mm, side) for side in (-1.0, 1.0))
        return there_mm if probability >= rules.constants.side_probability else searching_mm
    return _wd_near_focus_mm(focus, view, assessment.exposed, rules)


def _wd_near_focus_mm(focus: FocusEstimate, view: FocusView, exposed: bool, rules: RunRules) -> float:
    """The focus, one of its flanks, or the run's start.

    In focus already and still not sure of it, the flank tells more than another scan of the same place. A run that may
    have begun in focus sees both flanks before it settles: one flank alone does not tell on which side of the start the
    focus lies, and backlash would hold the lens off a start that is approached from the other side.
    """
    if view.owes_start or (view.at_focus and view.start_sharper):
        there_mm, is_there = view.start_mm, view.at_start
    else:
        there_mm, is_there = focus.wd_mm, view.at_focus
    sides: tuple[float, ...] = (1.0, -1.0) if view.frames_above <= view.frames_below else (-1.0, 1.0)
    if not is_there:
        is_one_flank_missing = (view.frames_below == 0) != (view.frames_above == 0)
        sides = sides[:1] if is_one_flank_missing and view.near_start else ()
    elif not exposed:
        sides = ()
    flanks_mm = (focus.wd_mm + side * rules.constants.flank_depths * focus.depth_mm for side in sides)
    limits = rules.limits[Axis.WD]
    return next((flank_mm for flank_mm in flanks_mm if limits.clamp(flank_mm) == flank_mm), there_mm)
