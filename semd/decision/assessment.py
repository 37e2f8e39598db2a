"""Assess a frame: everything the decision needs to know of the run so far, each value computed once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import fmean

from semd.decision.focus_fit import FocusEstimate, fit_focus
from semd.decision.judged_frame import JudgedFrame, compare_frames, judge_frames
from semd.decision.read_back import Change, SettingsComparison, compare_settings, detect_change
from semd.decision.rules import RunRules
from semd.decision.run import Run
from semd.decision.stripes import without_own_stripes
from semd.domain.axes import Axis
from semd.domain.observation import Observation


@dataclass(frozen=True, slots=True)
class FocusView:
    """The fitted focus beside the frames of the run.

    Attributes:
        known: True where the focus is known well enough to approach it.
        at_focus: True where the last frame was taken in focus.
        near_start: True where the run may have begun in focus.
        at_start: True where the last frame has the run's first working distance.
        start_mm: the run's first working distance, clamped to the limits.
        owes_start: True where the run may have begun in focus, and no well exposed frame without flags shows its start.
        start_sharper: True where the run began sharper than it now stands, by more than is tolerated.
        frames_below: unflagged frames that show the flank below the focus.
        frames_above: unflagged frames that show the flank above the focus.
    """

    known: bool
    at_focus: bool
    near_start: bool
    at_start: bool
    start_mm: float
    owes_start: bool
    start_sharper: bool
    frames_below: int
    frames_above: int


@dataclass(frozen=True, slots=True)
class Assessment:
    """One frame in its run. The rules of `stop_rules` and the next targets follow from it alone.

    Attributes:
        run: the run that the frame continues; None where it begins one.
        frame: the frame as measured.
        step: 0.. within the run.
        holds_spent: True where the run may not HOLD once more.
        steps_left: frames that the run may still take after this one.
        read_back_differs: True where a parameter does not read back as commanded.
        damaged: True where the image could not be measured.
        ended: True where the run has ended before this frame.
        score: the frame's score as the run judges it; None without an image.
        measured: the run's frames with their own scores, oldest first; empty where the frame is damaged or an operator
            took over.
        judged: the same with scores and errors as the focus fit corrects them.
        observations: the same frames as records, less flags that another scan cleared, for the actor's state.
        focus: the fitted focus; None where each score stands alone.
        view: the focus beside the frames; None where there is no focus.
        lost: True where a focus was looked for and next to nothing is known of it.
        flagged: True where a quality flag says that the frame's score is not to be trusted.
        exposed: True where the frame's exposure is good or not ours to correct.
        passes: True where the frame passes, if its score can be trusted.
        trusted: True where the passing score can be trusted.
        good: True where the run may end as DONE: the frame passes, surely, and the run's start was no sharper.
        blank: True where nearly all pixels share one value.
        barren: True where no frame of the run is promising.
        best: index of the frame to return to.
        at_best: True where the frame has the settings of the best one.
        idle_steps: frames since one as good as the best; 0 while nothing is promising.
        confirms_best: True where the best frame passes by too little and was scanned only once.
        keeps_focus: True where only the exposure may keep the frame from passing.
    """

    run: Run | None
    frame: Observation
    step: int
    holds_spent: bool
    steps_left: int
    read_back_differs: bool = False
    damaged: bool = False
    ended: bool = False
    score: float | None = None
    measured: tuple[JudgedFrame, ...] = ()
    judged: tuple[JudgedFrame, ...] = ()
    observations: tuple[Observation, ...] = ()
    focus: FocusEstimate | None = None
    view: FocusView | None = None
    lost: bool = False
    flagged: bool = False
    exposed: bool = False
    passes: bool = False
    trusted: bool = False
    good: bool = False
    blank: bool = False
    barren: bool = False
    best: int = 0
    at_best: bool = False
    idle_steps: int = 0
    confirms_best: bool = False
    keeps_focus: bool = False

    def as_event(self) -> dict[str, object]:
        """Values worth logging, on one level, for the debug event of a frame."""
        event: dict[str, object] = {
            "step": self.step,
            "passes": self.passes,
            "trusted": self.trusted,
            "flagged": self.flagged,
            "exposed": self.exposed,
            "barren": self.barren,
            "lost": self.lost,
            "best": self.best,
            "at_best": self.at_best,
            "idle_steps": self.idle_steps,
        }
        if self.focus is not None and self.view is not None:
            event |= {
                "focus_wd_mm": round(self.focus.wd_mm, 4),
                "focus_sigma_mm": round(self.focus.sigma_mm, 4),
                "focus_known": self.view.known,
                "at_focus": self.view.at_focus,
                "near_start": self.view.near_start,
                "start_sharper": self.view.start_sharper,
            }
        return event


def assess(run: Run | None, frame: Observation, rules: RunRules) -> Assessment:
    """Assess `frame`, given the run so far.

    Args:
        run: the run so far, or None when there is none.
        frame: the new frame.
        rules: thresholds and budgets.
    """
    holds_spent = run is not None and run.holds >= rules.constants.max_holds
    change = Change.NONE
    if run is not None:
        change = detect_change(run.last, run.targets, frame.parameters, rules)
    if run is not None and change is Change.FIELD:
        run = None
    took_over = run is not None and change is Change.READ_BACK
    if run is not None and not took_over and (run.restarts_next or _has_fallen(run, frame, rules)):
        run = None
    step = run.steps if run is not None else 0
    alone = Assessment(
        run=run,
        frame=frame,
        step=step,
        holds_spent=holds_spent,
        steps_left=rules.max_steps - step - 1,
        read_back_differs=took_over,
        damaged=frame.measurement is None,
        ended=run is not None and run.status.is_terminal,
        score=frame.measurement.score if frame.measurement is not None else None,
    )
    if took_over or frame.measurement is None:
        return alone
    return _assess_run(alone, (*(run.frames if run is not None else ()), frame), rules)


def assess_earlier_frames(assessment: Assessment, rules: RunRules) -> Assessment:
    """Assess the frames of the run before the present one, where there are any."""
    run = assessment.run
    if run is None or not run.frames:
        return assessment
    return _assess_run(assessment, run.frames, rules)


def _assess_run(alone: Assessment, frames: tuple[Observation, ...], rules: RunRules) -> Assessment:
    frames = without_own_stripes(frames, rules)
    measured = judge_frames(frames, rules)
    focus = fit_focus(measured, rules)
    judged = measured if focus is None else _corrected(measured, focus, rules)
    start_mm = rules.limits[Axis.WD].clamp(measured[0].parameters.wd_mm)
    settings = compare_settings([each.parameters for each in measured], start_mm, rules)
    compared = compare_frames(measured, judged, rules)
    view = _focus_view(measured, focus, start_mm, settings, rules) if focus is not None else None
    trusted = compared.passes and _is_trusted(judged, focus, settings, rules)
    spares_start = view is None or (not view.owes_start and not view.start_sharper)
    is_scanned_once = len(_scores_at(compared.best, judged, settings)) == 1
    return replace(
        alone,
        observations=frames,
        measured=measured,
        judged=judged,
        score=judged[-1].score,
        focus=focus,
        view=view,
        lost=rules.fits_focus and (focus is None or focus.sigma_mm > rules.constants.lost_depths * focus.depth_mm),
        flagged=judged[-1].flagged,
        exposed=judged[-1].exposed,
        passes=compared.passes,
        trusted=trusted,
        good=trusted and spares_start,
        blank=judged[-1].blank,
        barren=compared.barren,
        best=compared.best,
        at_best=bool(settings.same[compared.best, -1]),
        idle_steps=compared.idle_steps,
        confirms_best=focus is None and compared.best_passes and is_scanned_once,
        keeps_focus=compared.keeps_focus,
    )


def _corrected(measured: tuple[JudgedFrame, ...], focus: FocusEstimate, rules: RunRules) -> tuple[JudgedFrame, ...]:
    """Scores and errors as the fit implies them, corrected within reason: it is still these frames that are judged."""
    judged, most = list(measured), rules.constants.max_correction_points
    for member, quality, sigma in zip(focus.members, focus.quality, focus.sigma, strict=True):
        own = measured[member].score
        score = min(max(float(quality), own - most), own + most)
        judged[member] = replace(measured[member], score=score, sigma=float(sigma))
    return tuple(judged)


def _is_trusted(
    judged: tuple[JudgedFrame, ...], focus: FocusEstimate | None, settings: SettingsComparison, rules: RunRules
) -> bool:
    """Return True if the last frame's passing score can be trusted.

    The fit gives a probability. Without it, one score must pass by its own error, or another scan of the same settings
    must agree.
    """
    now, last = judged[-1], len(judged) - 1
    if now.flagged:
        return False
    if focus is not None and last in focus.members:
        return float(focus.passing[focus.members.index(last)]) >= rules.sure_share
    if now.score - rules.sure_sigmas * now.sigma > rules.accept_score:
        return True
    scans = _scores_at(last, judged, settings)
    return len(scans) > 1 and sum(scans) > rules.accept_score * len(scans)


def _scores_at(place: int, judged: tuple[JudgedFrame, ...], settings: SettingsComparison) -> list[float]:
    """Scores of the unflagged frames with the settings of one of them."""
    return [each.score for each, same in zip(judged, settings.same[place], strict=True) if same and not each.flagged]


def _focus_view(
    measured: tuple[JudgedFrame, ...],
    focus: FocusEstimate,
    start_mm: float,
    settings: SettingsComparison,
    rules: RunRules,
) -> FocusView:
    constants, depth_mm = rules.constants, focus.depth_mm
    reach_mm = max(constants.start_sigmas * focus.sigma_mm, constants.start_depths * depth_mm)
    offsets = [(each.parameters.wd_mm - focus.wd_mm) / depth_mm for each in measured if not each.flagged]
    flanks = [offset for offset in offsets if constants.at_focus_depths < abs(offset) < constants.near_depths]
    above = sum(offset > 0.0 for offset in flanks)
    at_start = bool(settings.at_start[-1])
    fair = [
        each.score
        for each, is_there in zip(measured, settings.at_start, strict=True)
        if is_there and each.exposed and not each.flagged
    ]
    near_start = abs(start_mm - focus.wd_mm) <= reach_mm
    return FocusView(
        known=focus.sigma_mm <= constants.aim_depths * depth_mm,
        at_focus=abs(measured[-1].parameters.wd_mm - focus.wd_mm) <= constants.at_focus_depths * depth_mm,
        near_start=near_start,
        at_start=at_start,
        start_mm=start_mm,
        owes_start=near_start and not fair,
        # Where the limits let it come no nearer to its start, the start is not preferred.
        start_sharper=not at_start and _is_start_sharper(focus, fair, measured[-1].score, len(measured) - 1, rules),
        frames_below=len(flanks) - above,
        frames_above=above,
    )


def _is_start_sharper(
    focus: FocusEstimate, fair_start_scores: list[float], score: float, last: int, rules: RunRules
) -> bool:
    """Return True if the run began sharper than its last frame, by the fit or by the scores themselves."""
    if last not in focus.members or 0 not in focus.members:
        return False
    lost = focus.quality[focus.members.index(0)] - focus.quality[focus.members.index(last)]
    # Nearby frames are misjudged alike: where the scores themselves tell, they tell more finely than the fit.
    said = fmean(fair_start_scores) - score if fair_start_scores else 0.0
    return bool(lost > rules.constants.tolerated_fit_points or said > rules.constants.tolerated_score_points)


def _has_fallen(run: Run, frame: Observation, rules: RunRules) -> bool:
    """Return True if the score has fallen after the end of a run so far that a new one is due.

    The mark is the threshold, or the best score that the scoring machine itself gave in the run: a field that never
    passed cannot fall below the threshold.
    """
    if not run.status.is_terminal or frame.measurement is None:
        return False
    scores = [each.measurement.score if each.measurement is not None else 0.0 for each in run.frames]
    best = max(scores, default=rules.accept_score)
    return frame.measurement.score < min(rules.accept_score, best) - rules.restart_margin
