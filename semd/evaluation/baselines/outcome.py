"""One run of one method, judged by the simulator's truth."""

from __future__ import annotations

from dataclasses import dataclass

from semd.errors import PeerError
from semd.evaluation.baselines.baseline_harness import FRAME_BUDGET, Bench, Peer
from semd.evaluation.control.episode import GOOD_SCORE
from semd.simulator.microscope import VirtualMicroscope

OVERRUN = "over the budget"
GAVE_UP = "gave up"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a run.

    Attributes:
        frames: frames scanned.
        failure: why the run failed whatever the truth says, in a few words; None when it ran through.
        true_score: ground truth of the settings the run ended with.
        start_true_score: ground truth of the start.
        wd_error_u: distance from the true focus at the end in depths of field (`Optics.focus_unit_mm`), >= 0.
        brightness_contrast_ok: True where brightness and contrast ended in their good range.
        dose: detected electrons per pixel at emission 1, summed over the frames.
    """

    frames: int
    failure: str | None
    true_score: float
    start_true_score: float
    wd_error_u: float
    brightness_contrast_ok: bool
    dose: float

    @property
    def sharp(self) -> bool:
        """True where the run ran through and the focus is right by the truth."""
        return self.failure is None and self.true_score >= GOOD_SCORE

    @property
    def sharp_and_exposed(self) -> bool:
        """True where brightness and contrast are right, too."""
        return self.sharp and self.brightness_contrast_ok

    @property
    def worse(self) -> bool:
        """True where the run ended worse than it began."""
        return self.true_score < self.start_true_score


def run_peer(peer: Peer, microscope: VirtualMicroscope, budget: int = FRAME_BUDGET) -> Outcome:
    """Let a method work at a microscope; whatever it raises, Ctrl+C aside, is a failure of this run.

    Args:
        peer: the method.
        microscope: at its start.
        budget: frames the run may take.
    """
    # Not among the frames: nobody's first frame need be at the start.
    start = microscope.scan().truth
    bench = Bench(microscope, budget)
    failure: str | None = None
    try:
        if not peer.focus(bench):
            failure = GAVE_UP
    except PeerError as error:
        failure = error.message
    except Exception as error:  # noqa: BLE001 - a third party's package may raise anything
        failure = type(error).__name__
    if bench.overrun:
        failure = OVERRUN
    truth = bench.end_truth()
    return Outcome(
        frames=bench.frames,
        failure=failure,
        true_score=truth.true_score,
        start_true_score=start.true_score,
        wd_error_u=abs(truth.wd_error_mm) / bench.unit_mm,
        brightness_contrast_ok=truth.brightness_contrast_ok,
        dose=bench.dose,
    )
