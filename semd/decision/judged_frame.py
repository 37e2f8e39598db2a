"""Criteria of single frames, and the comparison of a run's frames with each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

from semd.decision.rules import RunRules
from semd.domain.axes import Parameters
from semd.domain.observation import Measurement, Observation


@dataclass(frozen=True, slots=True)
class JudgedFrame:
    """One measured frame with the criteria that it meets by itself.

    Attributes:
        parameters: settings of the frame.
        score: 0..10; after the focus fit, as the run judges it.
        sigma: standard deviation of the score in points; after the focus fit, of the corrected score.
        own_sigma: standard deviation that the scoring machine stated.
        fit_sigma: standard deviation of the score about the focus quality, as the focus fit takes it.
        defect: distance from the good exposure, 0 inside (`ExposureRange.defect`).
        exposed: True where the exposure is good, or no controlled axis could correct it.
        flagged: True where a quality flag says that the score is not to be trusted.
        promising: True where the score lies surely above those of fields without detail.
        blank: True where nearly all pixels share one value and no controlled axis could explain it.
    """

    parameters: Parameters
    score: float
    sigma: float
    own_sigma: float
    fit_sigma: float
    defect: float
    exposed: bool
    flagged: bool
    promising: bool
    blank: bool

    def passes(self, rules: RunRules) -> bool:
        """Return True if the score is above the threshold and the exposure is good or not ours to correct."""
        return self.score > rules.accept_score and self.exposed


@dataclass(frozen=True, slots=True)
class FrameComparison:
    """The frames of a run beside each other.

    Attributes:
        best: index of the frame to return to.
        barren: True where no frame is promising.
        idle_steps: frames since one as good as the best, within its error; 0 while nothing is promising.
        passes: True where the last frame passes, if its score can be trusted.
        best_passes: True where the best frame passes and carries no quality flag.
        keeps_focus: True where only a bad exposure may keep the last frame from passing.
    """

    best: int
    barren: bool
    idle_steps: int
    passes: bool
    best_passes: bool
    keeps_focus: bool


def judge_frames(frames: tuple[Observation, ...], rules: RunRules) -> tuple[JudgedFrame, ...]:
    """Apply the criteria of a single frame to each of a run's measured frames."""
    controls_exposure = rules.controls_exposure
    return tuple(
        _judge(frame.parameters, frame.measurement, rules, controls_exposure)
        for frame in frames
        if frame.measurement is not None
    )


def compare_frames(
    measured: tuple[JudgedFrame, ...], judged: tuple[JudgedFrame, ...], rules: RunRules
) -> FrameComparison:
    """Compare the frames of a run.

    Args:
        measured: the frames with their own scores.
        judged: the same with scores and errors as the focus fit corrects them.
        rules: thresholds and constants.
    """
    barren = not any(frame.promising for frame in measured)
    best = best_frame(judged, rules)
    return FrameComparison(
        best=best,
        barren=barren,
        idle_steps=0 if barren else _steps_without_gain(measured, rules),
        passes=judged[-1].passes(rules),
        best_passes=not judged[best].flagged and judged[best].passes(rules),
        keeps_focus=_may_pass_once_exposed(measured[-1], rules),
    )


def best_frame(frames: tuple[JudgedFrame, ...], rules: RunRules) -> int:
    """Index of the frame to return to: the one of highest merit, the earliest of equals.

    A run must not end worse than it began. So beside its first frame only those count that are surely better than it.
    A quality flag lowers a frame's merit.
    """
    start, merits = frames[0], _merits(frames, rules)
    candidates = [0, *(i for i, frame in enumerate(frames) if i and _is_surely_better(frame, start, rules))]
    flag_points = rules.constants.flag_points
    return max(candidates, key=lambda i: merits[i] - flag_points * frames[i].flagged)


def _judge(parameters: Parameters, measured: Measurement, rules: RunRules, controls_exposure: bool) -> JudgedFrame:
    constants, exposure = rules.constants, measured.exposure
    defect = rules.exposure.defect(exposure)
    # Where the scoring machine expects larger errors than on its training samples, its errors are larger still.
    expected_error = measured.sigma * max(1.0, measured.sigma / constants.usual_sigma_points) ** 2
    exposure_sigma = constants.exposure_sigma_points * min(defect, 1.0)
    # An all-white or all-black frame may come from a far-off brightness, which the actor can correct where it controls
    # one. A flat grey frame, or a clipped one without such an axis, is a scan that did not happen.
    is_correctable = controls_exposure and exposure.black + exposure.white > 0.5
    return JudgedFrame(
        parameters=parameters,
        score=measured.score,
        sigma=measured.sigma,
        own_sigma=measured.sigma,
        fit_sigma=math.hypot(expected_error, constants.least_sigma_points, exposure_sigma),
        defect=defect,
        exposed=not controls_exposure or defect == 0.0,
        flagged=bool(measured.flags),
        promising=measured.score - constants.promising_errors * expected_error > constants.barren_score,
        blank=exposure.is_flat and not is_correctable,
    )


def _merits(frames: tuple[JudgedFrame, ...], rules: RunRules) -> list[float]:
    """Score less the weighted exposure defect of each frame."""
    weight = rules.weights.c_exposure
    if not rules.controls_exposure:
        return [frame.score for frame in frames]
    return [frame.score - weight * frame.defect for frame in frames]


def _steps_without_gain(frames: tuple[JudgedFrame, ...], rules: RunRules) -> int:
    """Frames since the first one that is as good as the best, within the best's error."""
    merits = _merits(frames, rules)
    highest = max(merits)
    mark = highest - frames[merits.index(highest)].sigma
    return len(frames) - 1 - next(i for i, merit in enumerate(merits) if merit >= mark)


def _is_surely_better(frame: JudgedFrame, start: JudgedFrame, rules: RunRules) -> bool:
    """Return True if the frame is surely sharper than `start` and exposed no worse, or is well exposed at last.

    A frame that is the first well exposed one needs only a score that is not surely lower.
    """
    if start.flagged:
        return True
    error = rules.constants.better_sigmas * frame.sigma
    is_sharper = frame.score - error > start.score
    if not rules.controls_exposure:
        return is_sharper
    if is_sharper:
        return frame.defect <= start.defect
    return frame.exposed and not start.exposed and frame.score + error > start.score


def _may_pass_once_exposed(frame: JudgedFrame, rules: RunRules) -> bool:
    """Return True if only a bad exposure may keep the frame from passing.

    A bad exposure costs points that no working distance restores; searching for them would leave a good focus.
    """
    if frame.flagged or frame.exposed:
        return False
    return frame.score + rules.constants.better_sigmas * frame.sigma > rules.accept_score
