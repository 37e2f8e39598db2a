"""One measured frame of a run with the criteria that it meets by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

from semd.decision.rules import RunRules
from semd.domain.axes import Parameters
from semd.domain.observation import Measurement, Observation


@dataclass(frozen=True, slots=True)
class JudgedFrame:
    """A frame's score and error beside its exposure; after the fit, the score and error as the run judges them.

    Attributes:
        parameters: settings of the frame.
        measurement: features, exposure and flags as measured.
        score: 0..10.
        sigma: standard deviation of the score in points.
        defect: distance from the good exposure, 0 inside (`ExposureRange.defect`).
        exposed: True where the exposure is good, or no controlled axis could correct it.
        flagged: True where a quality flag says that the score is not to be trusted.
    """

    parameters: Parameters
    measurement: Measurement
    score: float
    sigma: float
    defect: float
    exposed: bool
    flagged: bool

    def passes(self, rules: RunRules) -> bool:
        """Return True if the score is above the threshold and the exposure is good or not ours to correct."""
        return self.score > rules.accept_score and self.exposed

    def merit(self, rules: RunRules) -> float:
        """Score less the weighted exposure defect, by which frames are compared."""
        return self.score - rules.weights.c_exposure * (self.defect if rules.controls_exposure else 0.0)

    def expected_error(self, rules: RunRules) -> float:
        """Standard deviation in points to reckon with on an unknown sample.

        Where the scoring machine expects larger errors than on its training samples, its errors are larger still: 1.8
        times the expected ones at 0.24 points, 2.8 times at 0.3.
        """
        sigma = self.measurement.sigma
        return sigma * max(1.0, sigma / rules.constants.usual_sigma_points) ** 2

    def is_promising(self, rules: RunRules) -> bool:
        """Return True if the score lies surely above those of fields without detail."""
        constants = rules.constants
        return self.score - constants.promising_errors * self.expected_error(rules) > constants.barren_score

    def is_blank(self, rules: RunRules) -> bool:
        """Return True if nearly all pixels share one value and no controlled axis could explain it.

        An all-white or all-black frame may come from a far-off brightness, which the actor can correct where it
        controls one. A flat grey frame, or a clipped one without such an axis, is a scan that did not happen.
        """
        exposure = self.measurement.exposure
        return exposure.is_flat and not (rules.controls_exposure and exposure.black + exposure.white > 0.5)

    def may_pass_once_exposed(self, rules: RunRules) -> bool:
        """Return True if only a bad exposure may keep the frame from passing.

        A bad exposure costs points that no working distance restores; searching for them would leave a good focus.
        """
        if self.flagged or self.exposed:
            return False
        return self.score + rules.constants.better_sigmas * self.sigma > rules.accept_score

    def is_surely_better(self, start: JudgedFrame, rules: RunRules) -> bool:
        """Return True if the frame is surely sharper than `start` and exposed no worse, or is exposed well at last.

        A frame that is the first well exposed one needs only a score that is not surely lower.
        """
        if start.flagged:
            return True
        error = rules.constants.better_sigmas * self.sigma
        is_sharper = self.score - error > start.score
        if not rules.controls_exposure:
            return is_sharper
        if is_sharper:
            return self.defect <= start.defect
        return self.exposed and not start.exposed and self.score + error > start.score


def judge_frames(frames: tuple[Observation, ...], rules: RunRules) -> tuple[JudgedFrame, ...]:
    """Apply the criteria of a single frame to each of a run's measured frames."""
    judged = []
    for frame in frames:
        measured = frame.measurement
        if measured is None:
            continue
        defect = rules.exposure.defect(measured.exposure)
        judged.append(
            JudgedFrame(
                parameters=frame.parameters,
                measurement=measured,
                score=measured.score,
                sigma=measured.sigma,
                defect=defect,
                exposed=not rules.controls_exposure or defect == 0.0,
                flagged=bool(measured.flags),
            )
        )
    return tuple(judged)


def best_frame(frames: tuple[JudgedFrame, ...], rules: RunRules) -> int:
    """Index of the frame to return to: the one of highest merit, the earliest of equals.

    A run must not end worse than it began. So beside its first frame only those count that are surely better than it.
    A quality flag lowers a frame's merit.
    """
    start = frames[0]
    candidates = [0, *(i for i, frame in enumerate(frames) if i and frame.is_surely_better(start, rules))]
    flag_points = rules.constants.flag_points
    return max(candidates, key=lambda i: frames[i].merit(rules) - flag_points * frames[i].flagged)


def steps_without_gain(frames: tuple[JudgedFrame, ...], rules: RunRules) -> int:
    """Frames since the first one that is as good as the best, within the best's error."""
    merits = [frame.merit(rules) for frame in frames]
    highest = max(merits)
    mark = highest - frames[merits.index(highest)].sigma
    return len(frames) - 1 - next(i for i, merit in enumerate(merits) if merit >= mark)


def fitted_sigma(frame: JudgedFrame, rules: RunRules) -> float:
    """Standard deviation in points of a frame's score about its focus quality, as the focus fit takes it."""
    constants = rules.constants
    exposure_sigma = constants.exposure_sigma_points * min(frame.defect, 1.0)
    return math.hypot(frame.expected_error(rules), constants.least_sigma_points, exposure_sigma)
