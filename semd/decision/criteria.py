"""What a run makes of its frames: does one pass, surely, and which is the best to go back to."""

from __future__ import annotations

import math

import numpy as np

from semd.decision.read_back import differs
from semd.decision.rules import RunRules
from semd.domain.observation import Measurement, Observation

_USUAL_SIGMA = 0.18
# A hollow's score of 8.5 that said 0.33 of its error was wrong by 6.5.
_PROMISING_ERRORS = 1.5


def best_frame(frames: tuple[Observation, ...], rules: RunRules) -> Observation:
    """The frame to return to: the highest score less the exposure's defect; the earliest of equals.

    The run must not end worse than it began. So beside the first frame only those count that are surely better than
    it: their score by more than its error and their exposure no worse, or their exposure good at last and their score
    no lower but for its error. A score in doubt counts for less.
    """
    start = frames[0]
    sure = [seen for seen in frames if seen is start or _is_surely_better(seen, start, rules)]
    return max(sure, key=lambda seen: _merit(seen, rules) - rules.doubt_points * is_doubted(seen))


def score_of(frame: Observation) -> float:
    """Its score, 0 where it could not be measured."""
    return frame.measurement.score if frame.measurement is not None else 0.0


def expected_error(measurement: Measurement) -> float:
    """Standard deviation in points to reckon with where little is known of the sample.

    Where the scoring machine expects larger errors than on what it was trained on, it errs by even more: at 0.24 by
    1.8 times as much as it expects, at 0.3 by 2.8 times.
    """
    return measurement.sigma * max(1.0, measurement.sigma / _USUAL_SIGMA) ** 2


def passes(measurement: Measurement, rules: RunRules) -> bool:
    """Whether the score is above the threshold and the exposure, where it could be mended, is good."""
    if not measurement.score > rules.accept_score:
        return False
    return not rules.controls_exposure or rules.exposure.accepts(measurement.exposure)


def is_sure(measurement: Measurement, rules: RunRules) -> bool:
    """Whether one score is enough to believe that the focus passes: a single lucky one is no success."""
    return measurement.score - rules.sure_sigmas * measurement.sigma > rules.accept_score


def is_confirmed(frame: Observation, before: tuple[Observation, ...], rules: RunRules) -> bool:
    """Whether a score that passes can be believed: by its own error, or because another scan has said the same.

    Args:
        frame: passes.
        before: the run's earlier frames.
        rules: of the run.
    """
    if frame.measurement is not None and is_sure(frame.measurement, rules):
        return True
    scans = scans_at(frame, (*before, frame), rules)
    return len(scans) > 1 and sum(scans) > rules.accept_score * len(scans)


def stays_in_focus(frame: Observation, rules: RunRules) -> bool:
    """Whether the working distance is left alone, because it may pass once the exposure lets it be seen.

    A bad exposure costs points that no working distance brings back; looking for them would leave a good focus.
    """
    seen = frame.measurement
    if seen is None or seen.doubts or not rules.controls_exposure or rules.exposure.accepts(seen.exposure):
        return False
    return seen.score + rules.better_sigmas * seen.sigma > rules.accept_score


def scans_at(place: Observation, frames: tuple[Observation, ...], rules: RunRules) -> list[float]:
    """Scores, none in doubt, of the frames with the settings of one of them."""
    there = place.parameters.controlled(rules.axes)
    return [score_of(seen) for seen in frames if not is_doubted(seen) and not differs(there, seen.parameters, rules)]


def is_barren(frames: tuple[Observation, ...], rules: RunRules) -> bool:
    """Whether no score lies surely above what fields with nothing in them are given."""
    measured = (seen.measurement for seen in frames if seen.measurement is not None)
    return all(each.score - _PROMISING_ERRORS * expected_error(each) <= rules.barren_score for each in measured)


def steps_without_gain(frames: tuple[Observation, ...], rules: RunRules) -> int:
    """Frames since one as good as the best, but for its error; 0 where nothing has been recognised yet."""
    if is_barren(frames, rules):
        return 0
    merits = [_merit(seen, rules) for seen in frames]
    best = frames[int(np.argmax(merits))].measurement
    mark = max(merits) - (best.sigma if best is not None else 0.0)
    return next(len(frames) - 1 - place for place, merit in enumerate(merits) if merit >= mark)


def is_blank(frame: Observation, rules: RunRules) -> bool:
    """Whether nearly all pixels share one value, and no exposure within reach explains it.

    An all-white or all-black frame is what a far-off brightness gives: the actor may mend that as long as it
    has a knob for it. A flat grey frame, or a clipped one without a knob, is a scan that did not happen.
    """
    if frame.measurement is None or not frame.measurement.exposure.is_flat:
        return False
    clipped = frame.measurement.exposure.black + frame.measurement.exposure.white
    return not (rules.controls_exposure and clipped > 0.5)


def is_exposed(frame: Observation, rules: RunRules) -> bool:
    """Whether its exposure is good, or not ours to mend."""
    if frame.measurement is None:
        return False
    return not rules.controls_exposure or rules.exposure.accepts(frame.measurement.exposure)


def is_doubted(frame: Observation) -> bool:
    """Whether its score is not to be trusted, or there is none."""
    return frame.measurement is None or bool(frame.measurement.doubts)


def _is_surely_better(frame: Observation, start: Observation, rules: RunRules) -> bool:
    """Whether it is surely sharper and no worse exposed, or well exposed at last and not surely less sharp."""
    one, other = frame.measurement, start.measurement
    if one is None or other is None or is_doubted(start):
        return one is not None
    error = rules.better_sigmas * one.sigma
    if not rules.controls_exposure:
        return one.score - error > other.score
    if one.score - error > other.score:
        return _defect(frame, rules) <= _defect(start, rules)
    is_mended = rules.exposure.accepts(one.exposure) and not rules.exposure.accepts(other.exposure)
    return is_mended and one.score + error > other.score


def _defect(frame: Observation, rules: RunRules) -> float:
    return rules.exposure.defect(frame.measurement.exposure) if frame.measurement is not None else math.inf


def _merit(frame: Observation, rules: RunRules) -> float:
    if frame.measurement is None:
        return -math.inf
    defect = _defect(frame, rules) if rules.controls_exposure else 0.0
    return frame.measurement.score - rules.weights.c_exposure * defect
