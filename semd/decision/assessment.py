"""A run's frames as they look once all of them have been seen, and where they say the focus is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import fmean

from semd.decision.criteria import is_confirmed, is_doubted, is_exposed, passes, scans_at, score_of
from semd.decision.exploration import unseen_wd_mm
from semd.decision.focus_fit import FocusBelief, focus_belief
from semd.decision.read_back import differs
from semd.decision.rules import RunRules
from semd.decision.stripes import without_own_stripes
from semd.domain.axes import Axis
from semd.domain.observation import Observation

_AT_FOCUS_DEPTHS = 0.3
_FLANK_DEPTHS = 1.2
_NEAR_DEPTHS = 4.0
_START_SIGMAS = 2.0
_START_DEPTHS = 1.0
_TOLERATED_POINTS = 0.05
_TOLERATED_SAID_POINTS = 0.1


@dataclass(frozen=True, slots=True)
class Insight:
    """What a run knows at its last frame.

    Attributes:
        measured: all frames of the run as the scoring machine judged them, less doubts that another scan removed.
        frames: the same as the whole run judges them: other scores and errors.
        belief: where the focus is; None where the scores alone are known.
    """

    measured: tuple[Observation, ...]
    frames: tuple[Observation, ...]
    belief: FocusBelief | None

    @property
    def now(self) -> Observation:
        """The last frame."""
        return self.frames[-1]

    def may_pass(self, rules: RunRules) -> bool:
        """Whether the last frame passes, if its score can be believed."""
        return self.now.measurement is not None and passes(self.now.measurement, rules)

    def is_sure(self, rules: RunRules) -> bool:
        """Whether the score of the last frame, which passes, can be believed."""
        if is_doubted(self.now):
            return False
        last = len(self.frames) - 1
        if self.belief is None or last not in self.belief.places:
            return is_confirmed(self.now, self.frames[:-1], rules)
        return float(self.belief.passing[self.belief.places.index(last)]) >= rules.sure_share

    def knows_focus(self, rules: RunRules) -> bool:
        """Whether the frames agree on where the focus is."""
        return self.belief is not None and self.belief.sigma_mm <= rules.aim_depths * self.belief.depth_mm

    def is_lost(self, rules: RunRules) -> bool:
        """Whether the frames were asked where the focus is, and say next to nothing."""
        if not rules.fits_focus:
            return False
        return self.belief is None or self.belief.sigma_mm > rules.lost_depths * self.belief.depth_mm

    def owes_start_a_look(self, rules: RunRules) -> bool:
        """Whether the run may have begun in focus and left before it saw the start fairly: it must not end worse."""
        return self._may_be_start(rules) and not self._fair_starts(self.frames, rules)

    def prefers_start(self, rules: RunRules) -> bool:
        """Whether the frames say that the run began sharper than it now stands, by more than can be left open.

        Where it has come back as near as the limits let it, it does not.
        """
        belief, last = self.belief, len(self.frames) - 1
        if belief is None or last not in belief.places or 0 not in belief.places or self._is_at_start(self.now, rules):
            return False
        lost = belief.quality[belief.places.index(0)] - belief.quality[belief.places.index(last)]
        fair = [score_of(seen) for seen in self._fair_starts(self.measured, rules)]
        # Nearby the scoring machine errs alike: where the scores themselves tell, the fit is not asked.
        said = fmean(fair) - score_of(self.measured[-1]) if fair else 0.0
        return bool(lost > _TOLERATED_POINTS or said > _TOLERATED_SAID_POINTS)

    def is_worth_confirming(self, best: Observation, rules: RunRules) -> bool:
        """Whether a best that passes, but not surely, is to be scanned again: what a fitted focus knows better."""
        if self.belief is not None or best.measurement is None or is_doubted(best):
            return False
        return passes(best.measurement, rules) and len(scans_at(best, self.frames, rules)) == 1

    def next_wd_mm(self, actor_mm: float, rules: RunRules) -> float:
        """The working distance to go to, given where the actor would.

        Where the frames agree on the focus, or at least on the side it lies on, it is gone to. Else the actor looks for
        it, and once it has long found nothing, the run goes where it has not been. In focus already, and still not sure
        of it, the flank tells more than another look from the same place. A run that may have begun in focus sees both
        flanks before it settles: one alone does not tell the side of its start that the focus lies on, and a backlash
        would hold the lens off a start that is come back to from the other.
        """
        belief, here_mm = self.belief, self.now.parameters.wd_mm
        unseen_mm = unseen_wd_mm(self.measured, rules) if self.is_lost(rules) else None
        looking_mm = actor_mm if unseen_mm is None else unseen_mm
        if belief is None:
            return looking_mm
        if not self.knows_focus(rules):
            chance, there_mm = max(belief.beside(here_mm, side) for side in (-1.0, 1.0))
            return there_mm if chance >= rules.side_share else looking_mm
        if self._is_start_due(belief, rules):
            there_mm, is_there = self._start_mm(rules), self._is_at_start(self.now, rules)
        else:
            there_mm, is_there = belief.wd_mm, self._is_at_focus(belief)
        below, above = self._flanks(belief)
        sides: tuple[float, ...] = (1.0, -1.0) if above <= below else (-1.0, 1.0)
        if not is_there:
            sides = sides[:1] if (below == 0) != (above == 0) and self._may_be_start(rules) else ()
        elif not is_exposed(self.now, rules):
            sides = ()
        flanks_mm = (belief.wd_mm + side * _FLANK_DEPTHS * belief.depth_mm for side in sides)
        limits = rules.limits[Axis.WD]
        return next((flank_mm for flank_mm in flanks_mm if limits.clamp(flank_mm) == flank_mm), there_mm)

    def _is_start_due(self, belief: FocusBelief, rules: RunRules) -> bool:
        return self.owes_start_a_look(rules) or (self._is_at_focus(belief) and self.prefers_start(rules))

    def _is_at_focus(self, belief: FocusBelief) -> bool:
        return abs(self.now.parameters.wd_mm - belief.wd_mm) <= _AT_FOCUS_DEPTHS * belief.depth_mm

    def _flanks(self, belief: FocusBelief) -> tuple[int, int]:
        """How many frames show the flank below the focus, and how many the one above."""
        seen_mm = [seen.parameters.wd_mm for seen in self.frames if not is_doubted(seen)]
        offsets = [(wd_mm - belief.wd_mm) / belief.depth_mm for wd_mm in seen_mm]
        flanks = [offset for offset in offsets if _AT_FOCUS_DEPTHS < abs(offset) < _NEAR_DEPTHS]
        above = sum(offset > 0.0 for offset in flanks)
        return len(flanks) - above, above

    def _may_be_start(self, rules: RunRules) -> bool:
        """Whether the run may have begun in focus, or as good as."""
        belief = self.belief
        if belief is None:
            return False
        reach_mm = max(_START_SIGMAS * belief.sigma_mm, _START_DEPTHS * belief.depth_mm)
        return abs(self._start_mm(rules) - belief.wd_mm) <= reach_mm

    def _fair_starts(self, frames: tuple[Observation, ...], rules: RunRules) -> list[Observation]:
        """The frames that show the run's first working distance well exposed and beyond doubt."""
        fair = (seen for seen in frames if not is_doubted(seen) and is_exposed(seen, rules))
        return [seen for seen in fair if self._is_at_start(seen, rules)]

    def _is_at_start(self, frame: Observation, rules: RunRules) -> bool:
        return not differs({Axis.WD: self._start_mm(rules)}, frame.parameters, rules)

    def _start_mm(self, rules: RunRules) -> float:
        """The run's first working distance, as far as the limits let it be gone to."""
        return rules.limits[Axis.WD].clamp(self.frames[0].parameters.wd_mm)


def insight(frames: tuple[Observation, ...], rules: RunRules) -> Insight:
    """Judge the frames of a run, at least one, by all of them together."""
    frames = without_own_stripes(frames)
    belief = focus_belief(frames, rules)
    if belief is None:
        return Insight(frames, frames, None)
    judged = list(frames)
    for place, quality, sigma in zip(belief.places, belief.quality, belief.sigma, strict=True):
        seen = frames[place].measurement
        if seen is not None:
            # The others may overrule a score, within reason: it is still this frame that is judged.
            score = min(max(float(quality), seen.score - rules.overrule_points), seen.score + rules.overrule_points)
            judged[place] = replace(frames[place], measurement=replace(seen, score=score, sigma=float(sigma)))
    return Insight(frames, tuple(judged), belief)
