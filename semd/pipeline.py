"""From a decoded frame to its answer: boxes (b), (c) and (d) of the paper's Fig. 5.

The daemon and replay share this file, so that a recorded sequence is answered by the very same steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from semd.decision.assessment import Assessment, assess
from semd.decision.decide import answer_assessed
from semd.decision.rules import RunRules
from semd.decision.run import Decision, Policy, Run
from semd.domain.axes import Parameters
from semd.domain.exposure import measure_exposure
from semd.domain.features import grey_histogram, measure_features
from semd.domain.frame_score import FrameScore
from semd.domain.observation import Measurement, Observation
from semd.model_store import Runtime, default_directory, load_model, models_digest
from semd.protocol.action import Action


class ScoringMachine(Protocol):
    """Box (b): gives a frame the score that an expert would give, with its uncertainty and quality flags."""

    def judge(self, image: NDArray[np.uint8], magnification: float) -> FrameScore:
        """Judge a grey frame, uint8 (H, W)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer to one frame, with the time that each part took.

    Attributes:
        observation: the frame as measured.
        decision: the answer.
        scoring_ms: time of the scoring machine; 0 without an image.
        features_ms: time of AVG, GRD, VAR and the exposure.
        control_ms: time of assessment, actor and decision.
        assessment: values that the decision was made from; None where something else decided, as in a calibration.
    """

    observation: Observation
    decision: Decision
    scoring_ms: float
    features_ms: float
    control_ms: float
    assessment: Assessment | None = None


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Models and rules; holds no memory of frames.

    Attributes:
        scorer: box (b).
        policy: the actor of box (d).
        rules: of the run.
        models_digest: enters every action's id.
    """

    scorer: ScoringMachine
    policy: Policy
    rules: RunRules
    models_digest: str

    def answer(self, run: Run | None, stem: str, parameters: Parameters, image: NDArray[np.uint8] | None) -> Answer:
        """Measure a frame and decide, given the run so far; `image` is None when it was unusable."""
        begun = time.perf_counter()
        measurement, scored = None, begun
        if image is not None:
            judged = self.scorer.judge(image, parameters.magnification)
            scored = time.perf_counter()
            histogram = grey_histogram(image)
            measurement = Measurement(
                score=judged.score,
                features=measure_features(image, histogram),
                exposure=measure_exposure(histogram),
                sigma=judged.sigma,
                flags=judged.flags,
                stripes=judged.stripes,
            )
        measured = time.perf_counter()
        observation = Observation(stem, parameters, measurement)
        assessment = assess(run, observation, self.rules)
        decision = answer_assessed(assessment, self.rules, self.policy)
        decided = time.perf_counter()
        return Answer(
            observation=observation,
            decision=decision,
            scoring_ms=(scored - begun) * 1e3,
            features_ms=(measured - scored) * 1e3,
            control_ms=(decided - measured) * 1e3,
            assessment=assessment,
        )


def make_action(
    identity: str, seq: int, observation: Observation, decision: Decision, now: datetime, lifetime: timedelta
) -> Action:
    """Make the action record of a decision, stamped with the present time."""
    measured = observation.measurement.score if observation.measurement is not None else 0.0
    return Action(
        id=identity,
        seq=seq,
        frame=observation.frame,
        status=decision.status,
        magnification=observation.parameters.magnification,
        targets=decision.targets,
        deltas=decision.deltas,
        score=decision.score if decision.score is not None else measured,
        reward=decision.reward,
        step=decision.step,
        issued=now,
        expires=now + lifetime,
    )


def load_pipeline(
    models: Path | None, threads: int, make_rules: Callable[[int, float], RunRules], runtime: Runtime = "torch"
) -> Pipeline:
    """Load verified models and make the rules that fit them.

    Args:
        models: folder with the manifest; None for the weights that came with semd.
        threads: of the scoring network's convolutions.
        make_rules: builds the rules from the actor's N and rho.
        runtime: what runs these convolutions.

    Raises:
        ModelError: a model is missing, changed or of the wrong shape, or the runtime's extra is not installed.
    """
    # Imported here: torch takes longer than all the rest, and an answer source of its own needs none of it.
    from semd.control.policy import ActorPolicy  # noqa: PLC0415
    from semd.scoring.runtime.scorer_loading import load_scorer  # noqa: PLC0415

    directory = models if models is not None else default_directory()
    scorer = load_scorer(directory, runtime, threads)
    policy = ActorPolicy.load(load_model(directory, "actor").data)
    return Pipeline(
        scorer=scorer,
        policy=policy,
        rules=make_rules(policy.n_frames, policy.rho),
        models_digest=models_digest(directory, runtime),
    )
