"""One run of the whole loop in one process: the virtual microscope, the real text, decoder, models and rules.

The processes, files and sockets between them are left out, which makes hundreds of runs affordable; the demo
puts them back. Success is judged by the simulator's ground truth alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semd.decision.run import Run, advance
from semd.domain.axes import Axis, Parameters
from semd.inbox.image import decode_image
from semd.pipeline import Answer, Pipeline
from semd.protocol.action import Status
from semd.protocol.parameter_text import format_parameters, parse_parameters
from semd.simulator.frame_writer import ImageFormat, encode_image
from semd.simulator.microscope import VirtualMicroscope

GOOD_SCORE = 9.0


@dataclass(frozen=True, slots=True)
class Episode:
    """Outcome of a run.

    Attributes:
        status: the last answer.
        frames: frames scanned, the first included.
        score: the scoring machine's opinion of the frame the run ended on.
        true_score: ground truth of the settings the run ended with.
        start_true_score: ground truth of the start.
        wd_error_mm: signed distance from the true focus at the end.
        blur_px: effective blur diameter at the end.
        brightness_contrast_ok: True where brightness and contrast ended in their good range.
        path: ground truth of every frame's score, the first included.
    """

    status: Status
    frames: int
    score: float
    true_score: float
    start_true_score: float
    wd_error_mm: float
    blur_px: float
    brightness_contrast_ok: bool
    path: tuple[float, ...] = ()

    @property
    def is_good(self) -> bool:
        """True where the run ended on a good picture by the truth, whatever it said."""
        return self.true_score >= GOOD_SCORE and self.brightness_contrast_ok

    @property
    def success(self) -> bool:
        """True where the run said DONE and the truth agrees."""
        return self.status is Status.DONE and self.is_good


def run_episode(microscope: VirtualMicroscope, pipeline: Pipeline, max_frames: int = 100) -> Episode:
    """Run the loop until DONE or GIVE-UP, or until `max_frames` were scanned."""
    run: Run | None = None
    scan = microscope.scan()
    path = [scan.truth.true_score]
    for number in range(max_frames):
        parameters = Parameters(microscope.magnification, scan.wd_mm, scan.brightness, scan.contrast)
        answer = answer_as_read(pipeline, run, f"frame-{number:06d}", parameters, scan.image)
        run = advance(run, answer.observation, answer.decision)
        targets = answer.decision.targets
        microscope.apply(
            wd_mm=targets.get(Axis.WD),
            brightness=targets.get(Axis.BRIGHTNESS),
            contrast=targets.get(Axis.CONTRAST),
        )
        if answer.decision.status.is_terminal:
            break
        scan = microscope.scan()
        path.append(scan.truth.true_score)
    if answer.decision.status is not Status.DONE:
        scan = microscope.scan()  # the truth of where GIVE-UP left the knobs
    measured = answer.observation.measurement
    return Episode(
        status=answer.decision.status,
        frames=number + 1,
        score=measured.score if measured is not None else 0.0,
        true_score=scan.truth.true_score,
        start_true_score=path[0],
        wd_error_mm=scan.truth.wd_error_mm,
        blur_px=scan.truth.blur_px,
        brightness_contrast_ok=scan.truth.brightness_contrast_ok,
        path=tuple(path),
    )


def answer_as_read(
    pipeline: Pipeline, run: Run | None, stem: str, parameters: Parameters, image: NDArray[np.uint8]
) -> Answer:
    """Answer a frame as it comes out of its files: JPEG's losses, and the text's rounding.

    Args:
        pipeline: models and rules.
        run: the run so far.
        stem: the frame's name.
        parameters: settings it was scanned with.
        image: uint8 (H, W), grey, as scanned.
    """
    read = parse_parameters(format_parameters(parameters).encode())
    return pipeline.answer(run, stem, read, decode_image(encode_image(image, ImageFormat.JPG), ".jpg"))
