"""Decide: one assessment, one rule, one answer for each frame (protocol, sections 2 and 4).

The decision depends on the frames of the run, the rules and the actor alone. `decide` answers a frame and
`run.advance` remembers the answer; both are pure.
"""

from __future__ import annotations

from semd.decision.assessment import Assessment, assess
from semd.decision.rules import RunRules
from semd.decision.run import Decision, Policy, Run
from semd.decision.stop_rules import first_rule
from semd.domain.observation import Observation
from semd.domain.reward import reward
from semd.protocol.action import Status, round_target


def decide(run: Run | None, frame: Observation, rules: RunRules, policy: Policy) -> Decision:
    """Answer `frame`, given the run so far.

    Args:
        run: the run so far, or None when there is none.
        frame: the new frame.
        rules: thresholds and budgets.
        policy: the actor. Its output is bounded here, whatever it is.
    """
    return answer_assessed(assess(run, frame, rules), rules, policy)


def answer_assessed(view: Assessment, rules: RunRules, policy: Policy) -> Decision:
    """Answer an assessed frame by the first stop rule that applies."""
    rule = first_rule(view, rules)
    status = rule.status if rule.status is not None else _status_of_the_end(view)
    now = view.frame.parameters.controlled(rules.axes)
    targets = {axis: round_target(axis, target) for axis, target in rule.targets(view, rules, policy).items()}
    return Decision(
        status=status,
        reason=rule.reason,
        targets=targets,
        deltas={axis: round_target(axis, target - now[axis]) for axis, target in targets.items()},
        reward=_reward(view, rules),
        step=view.step,
        starts_run=view.run is None,
        restarts_next=view.read_back_differs,
        score=view.score,
    )


def _status_of_the_end(view: Assessment) -> Status:
    if view.run is None:
        raise ValueError("only a run that has ended repeats its answer")
    return view.run.status


def _reward(view: Assessment, rules: RunRules) -> float | None:
    """Equation (6), None for the first frame of a run, 0 for a frame without measurement."""
    if view.run is None:
        return None
    measurement = view.frame.measurement
    return reward(measurement, rules.weights, rules.exposure) if measurement is not None else 0.0
