"""Hand-made records: a window of 5..15 mm and 0..100, so that a step on the networks' scale is easy to reckon."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from semd.daemon.records import decision_to_json, observation_to_json
from semd.decision.rules import RunRules
from semd.decision.run import Decision, Reason
from semd.domain.axes import AXES, Axis, Parameters
from semd.domain.exposure import Exposure, ExposureRange
from semd.domain.features import Features
from semd.domain.limits import AxisLimits
from semd.domain.observation import Measurement, Observation
from semd.domain.reward import RewardWeights
from semd.outbox.ledger import Ledger
from semd.outbox.rows import Claim
from semd.protocol.action import Status

RULES = RunRules(
    limits={
        Axis.WD: AxisLimits(5.0, 15.0),
        Axis.BRIGHTNESS: AxisLimits(0.0, 100.0),
        Axis.CONTRAST: AxisLimits(0.0, 100.0),
    },
    optics=None,
    n_frames=2,
    rho=0.2,
)
WEIGHTS, AIM = RewardWeights(c1=0.5, c2=1.0, c_exposure=2.0), ExposureRange()
# AVG, GRD and VAR are 0, 0.2 and 0.4 on the networks' scale: (0.2)^2 255 100 = 1020, (0.4 127.5)^2 = 2601.
FEATURES = Features(avg=127.5, grd=1020.0, var=2601.0, pixels=100)
GOOD = Exposure(black=0.0, white=0.0, level=127.5, contrast=150.0)

Line = tuple[str, str]


def seen(
    wd_mm: float, brightness: float, contrast: float, score: float | None, exposure: Exposure = GOOD
) -> Observation:
    measurement = Measurement(score, FEATURES, exposure) if score is not None else None
    return Observation("f", Parameters(1000.0, wd_mm, brightness, contrast), measurement)


def answered(
    frame: Observation,
    status: Status,
    step: int,
    *,
    reason: Reason = Reason.MOVING,
    targets: Mapping[Axis, float] | None = None,
    restarts_next: bool = False,
) -> Line:
    """One line of the ledger; the run starts at step 0."""
    decision = Decision(
        status=status,
        reason=reason,
        targets=targets if targets is not None else frame.parameters.controlled(AXES),
        deltas={},
        reward=None,
        step=step,
        starts_run=step == 0,
        restarts_next=restarts_next,
    )
    return observation_to_json(frame), decision_to_json(decision)


def three_frames() -> list[Line]:
    """A run of two moves that ends in DONE."""
    return [
        answered(seen(8.0, 40.0, 50.0, 4.0), Status.ADJUST, 0),
        answered(seen(9.0, 50.0, 50.0, 6.0), Status.ADJUST, 1),
        answered(seen(9.5, 50.0, 50.0, 9.5), Status.DONE, 2, reason=Reason.PASSED),
    ]


def write_ledger(directory: Path, lines: Iterable[Line]) -> None:
    """The ledger of a state directory that holds these answers."""
    with Ledger(directory / "ledger.sqlite", now=lambda: datetime(2026, 1, 2, tzinfo=UTC)) as ledger:
        for number, (observation, decision) in enumerate(lines):
            digest = f"{number:064x}"
            seq = ledger.claim(
                Claim(f"frame-{number}", digest[-32:], "image", "text", digest, digest, ((str(number),),))
            )
            assert seq is not None
            ledger.decide(seq, observation, decision, starts_run=False, is_hold=False)
