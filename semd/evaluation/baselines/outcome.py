"""One run of one method, judged by the simulator's ground truth."""

from __future__ import annotations

from dataclasses import dataclass

from semd.errors import BaselineError
from semd.evaluation.baselines.baseline_harness import FRAME_BUDGET, AutofocusMethod, BaselineHarness
from semd.evaluation.control.episode import GOOD_SCORE
from semd.simulator.microscope import VirtualMicroscope

OVERRUN = "over the budget"
GAVE_UP = "gave up"


@dataclass(frozen=True, slots=True)
class BaselineOutcome:
    """Outcome of a run.

    Attributes:
        frames: number of frames scanned.
        failure: reason of a failure, in a few words; None if the run ended without one.
        true_score: true score at the final settings.
        start_true_score: true score at the start.
        wd_error_u: final distance from the true focus in depths of field (`Optics.focus_unit_mm`), >= 0.
        brightness_contrast_ok: True if brightness and contrast ended in their good range.
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
        """True if the run ended without failure and in focus by the ground truth."""
        return self.failure is None and self.true_score >= GOOD_SCORE

    @property
    def sharp_and_exposed(self) -> bool:
        """True if the run ended sharp with good brightness and contrast."""
        return self.sharp and self.brightness_contrast_ok

    @property
    def worse(self) -> bool:
        """True if the true score ended lower than it started."""
        return self.true_score < self.start_true_score


def run_method(
    autofocus: AutofocusMethod, microscope: VirtualMicroscope, budget: int = FRAME_BUDGET
) -> BaselineOutcome:
    """Run a method on a microscope; any exception except Ctrl+C counts as a failure of the run.

    Args:
        autofocus: the method.
        microscope: the microscope at its start.
        budget: largest number of frames.
    """
    # Not counted: a method need not scan its first frame at the start.
    start = microscope.scan().truth
    harness = BaselineHarness(microscope, budget)
    failure: str | None = None
    try:
        if not autofocus.focus(harness):
            failure = GAVE_UP
    except BaselineError as error:
        failure = error.message
    except Exception as error:  # noqa: BLE001 - a third party's package may raise anything
        failure = type(error).__name__
    if harness.overrun:
        failure = OVERRUN
    truth = harness.end_truth()
    return BaselineOutcome(
        frames=harness.frames,
        failure=failure,
        true_score=truth.true_score,
        start_true_score=start.true_score,
        wd_error_u=abs(truth.wd_error_mm) / harness.unit_mm,
        brightness_contrast_ok=truth.brightness_contrast_ok,
        dose=harness.dose,
    )
