"""semd itself at the same bench: the whole pipeline through text, JPEG, models and rules."""

from __future__ import annotations

from semd.decision.run import Run, advance
from semd.domain.axes import Axis, Parameters
from semd.evaluation.baselines.baseline_harness import Bench
from semd.evaluation.control.episode import answer_as_read
from semd.pipeline import Pipeline
from semd.protocol.action import Status


class Ours:
    """The pipeline as the daemon runs it."""

    def __init__(self, pipeline: Pipeline) -> None:
        """Take models and rules."""
        self._pipeline = pipeline

    def focus(self, bench: Bench) -> bool:
        """Run until DONE, which it believes in, or GIVE-UP, which it does not."""
        run: Run | None = None
        status = Status.ADJUST
        while not status.is_terminal:
            view = bench.scan()
            parameters = Parameters(bench.magnification, view.wd_mm, view.brightness, view.contrast)
            answer = answer_as_read(self._pipeline, run, f"frame-{bench.frames:06d}", parameters, view.image)
            run = advance(run, answer.observation, answer.decision)
            targets = answer.decision.targets
            bench.apply(
                wd_mm=targets.get(Axis.WD),
                brightness=targets.get(Axis.BRIGHTNESS),
                contrast=targets.get(Axis.CONTRAST),
            )
            status = answer.decision.status
        return status is Status.DONE
