"""The stop rules: a table, read from top to bottom; the first rule that applies answers the frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from semd.decision.aim import next_targets
from semd.decision.assessment import Assessment, assess_earlier_frames
from semd.decision.judged_frame import best_frame
from semd.decision.rules import RunRules
from semd.decision.run import Policy, Reason
from semd.domain.axes import Axis
from semd.protocol.action import Status

Targets = Callable[[Assessment, RunRules, Policy], Mapping[Axis, float]]


@dataclass(frozen=True, slots=True)
class StopRule:
    """One row of the table.

    Attributes:
        reason: reason of the answer.
        status: what the microscope is asked to do; None repeats the status that the run ended with.
        applies: condition on the assessment.
        targets: targets of the answer.
        meaning: the row in words, for the manual.
    """

    reason: Reason
    status: Status | None
    applies: Callable[[Assessment, RunRules], bool]
    targets: Targets
    meaning: str


def _present(view: Assessment, rules: RunRules, _: Policy) -> Mapping[Axis, float]:
    return view.frame.parameters.controlled(rules.axes)


def _best(view: Assessment, rules: RunRules, _: Policy) -> Mapping[Axis, float]:
    return view.judged[view.best].parameters.controlled(rules.axes)


def _best_before(view: Assessment, rules: RunRules, policy: Policy) -> Mapping[Axis, float]:
    """Settings of the best of the earlier frames: the present one was not measured, or shows nothing."""
    if view.run is None or not view.run.frames:
        return _present(view, rules, policy)
    return _best(assess_earlier_frames(view, rules), rules, policy)


def _start_or_outstanding(view: Assessment, rules: RunRules, _: Policy) -> Mapping[Axis, float]:
    """Settings of the start, unless one score stands far out: on such a field every score is in doubt."""
    best, start = view.measured[best_frame(view.measured, rules)], view.measured[0]
    stands_out = best.score > start.score + rules.constants.flag_points
    return (best if stands_out else start).parameters.controlled(rules.axes)


def _is_return_due(view: Assessment, rules: RunRules) -> bool:
    is_confirmation_due = view.confirms_best and view.idle_steps >= rules.doubt_steps
    return is_confirmation_due or view.idle_steps >= rules.patience_steps or view.steps_left <= 1


STOP_RULES: tuple[StopRule, ...] = (
    StopRule(
        Reason.HOLDS_SPENT,
        Status.GIVE_UP,
        lambda view, _: view.read_back_differs and view.holds_spent,
        _present,
        "an operator keeps turning the knobs: left as it stands",
    ),
    StopRule(
        Reason.READ_BACK,
        Status.HOLD,
        lambda view, _: view.read_back_differs,
        _present,
        "a parameter does not read back as commanded: somebody turned a knob, or it never moved",
    ),
    StopRule(
        Reason.HOLDS_SPENT,
        Status.GIVE_UP,
        lambda view, _: view.damaged and view.holds_spent,
        _best_before,
        "image after image cannot be used: back to the best frame",
    ),
    StopRule(
        Reason.IMAGE_DAMAGED,
        Status.HOLD,
        lambda view, _: view.damaged,
        _present,
        "the image cannot be decoded or measured: scanned again",
    ),
    StopRule(
        Reason.ALREADY_ENDED,
        Status.DONE,
        lambda view, _: view.ended and view.good,
        _present,
        "the run has ended and its picture is good",
    ),
    StopRule(
        Reason.ALREADY_ENDED,
        None,
        lambda view, _: view.ended,
        _present,
        "the run has ended and its score has not fallen: the same answer again",
    ),
    StopRule(
        Reason.PASSED,
        Status.DONE,
        lambda view, _: view.good,
        _present,
        "the score passes, surely, at a good exposure, and the run's start was no sharper",
    ),
    StopRule(
        Reason.DOUBTFUL,
        Status.GIVE_UP,
        lambda view, _: view.passes and view.flagged and view.holds_spent,
        _present,
        "the score would pass, but scan after scan carries a quality flag: left to the operator",
    ),
    StopRule(
        Reason.DOUBTFUL,
        Status.HOLD,
        lambda view, _: view.passes and view.flagged,
        _present,
        "the score would pass, but a quality flag says not to trust it: the same settings are scanned again",
    ),
    StopRule(
        Reason.HOLDS_SPENT,
        Status.GIVE_UP,
        lambda view, _: view.blank and view.holds_spent,
        _best_before,
        "scan after scan is blank: back to the best frame",
    ),
    StopRule(
        Reason.IMAGE_BLANK,
        Status.HOLD,
        lambda view, _: view.blank,
        _present,
        "nearly all pixels share one value: scanned again",
    ),
    StopRule(
        Reason.STEPS_SPENT,
        Status.GIVE_UP,
        lambda view, _: view.steps_left <= 0,
        _best,
        "`max_steps` frames were taken: back to the best frame",
    ),
    StopRule(
        Reason.NOTHING_TO_FOCUS_ON,
        Status.GIVE_UP,
        lambda view, rules: view.barren and len(view.measured) >= rules.constants.barren_steps,
        _start_or_outstanding,
        "no frame was promising: back to where it began, unless a score stands 3 points above the first one's",
    ),
    StopRule(
        Reason.NO_BETTER,
        Status.GIVE_UP,
        lambda view, rules: view.at_best and view.idle_steps >= rules.patience_steps,
        _best,
        "`patience_steps` frames brought nothing better, and the best one was looked at again",
    ),
    StopRule(
        Reason.RETURNING,
        Status.ADJUST,
        lambda view, rules: not view.at_best and _is_return_due(view, rules),
        _best,
        "back to the best frame, to confirm it or to end there",
    ),
    StopRule(
        Reason.MOVING,
        Status.ADJUST,
        lambda _, __: True,
        next_targets,
        "on the way: the actor's step, or the fitted focus",
    ),
)


def first_rule(view: Assessment, rules: RunRules) -> StopRule:
    """Return the first rule that applies; the last one always does."""
    return next(rule for rule in STOP_RULES if rule.applies(view, rules))


def reasons_as_markdown() -> str:
    """Table of the reasons for the operator's manual."""
    rows = ["| `reason` | answer | when |", "|---|---|---|"]
    for rule in STOP_RULES:
        answer = str(rule.status) if rule.status is not None else "as the run ended"
        rows.append(f"| `{rule.reason}` | {answer} | {rule.meaning} |")
    rows.append(f"| `{Reason.CALIBRATING}` | ADJUST | a calibration is sweeping the working distance |")
    return "\n".join(rows)
