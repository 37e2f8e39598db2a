"""semd on the same harness: the whole pipeline with parameter text, JPEG, models and rules."""

from __future__ import annotations

from semd.decision.run import Run, advance
from semd.domain.axes import Axis, Parameters
from semd.evaluation.baselines.baseline_harness import BaselineHarness
from semd.evaluation.control.episode import answer_as_read
from semd.pipeline import Pipeline
from semd.protocol.action import Status


class SemdMethod:
    """Autofocus by the pipeline, as the daemon runs it."""

    def __init__(self, pipeline: Pipeline) -> None:
        """Store the pipeline with its models and rules."""
        self._pipeline = pipeline

    def focus(self, harness: BaselineHarness) -> bool:
        """Run until DONE or GIVE-UP; return True after DONE."""
        run: Run | None = None
        status = Status.ADJUST
        while not status.is_terminal:
            view = harness.scan()
            parameters = Parameters(harness.magnification, view.wd_mm, view.brightness, view.contrast)
            answer = answer_as_read(self._pipeline, run, f"frame-{harness.frames:06d}", parameters, view.image)
            run = advance(run, answer.observation, answer.decision)
            targets = answer.decision.targets
            harness.apply(
                wd_mm=targets.get(Axis.WD),
                brightness=targets.get(Axis.BRIGHTNESS),
                contrast=targets.get(Axis.CONTRAST),
            )
            status = answer.decision.status
        return status is Status.DONE
