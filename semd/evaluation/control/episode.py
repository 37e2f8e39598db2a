"""One run of the whole loop in one process: virtual microscope, parameter text, image decoder, models and rules.

Processes, files and sockets are left out, which makes hundreds of runs affordable; the demo includes them. Success is
judged by the simulator's ground truth alone.
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
        status: status of the last answer.
        frames: number of frames scanned, the first included.
        score: predicted score of the last frame, 0..10.
        true_score: true score at the final settings.
        start_true_score: true score of the first frame.
        wd_error_mm: final working distance less the true focus, in mm.
        blur_px: effective blur diameter at the end, in pixels.
        brightness_contrast_ok: True if brightness and contrast ended in their good range.
        path: true score of every frame, the first included.
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
        """True if the final settings are good by the ground truth, whatever the last answer was."""
        return self.true_score >= GOOD_SCORE and self.brightness_contrast_ok

    @property
    def success(self) -> bool:
        """True if the run ended with DONE and the final settings are good by the ground truth."""
        return self.status is Status.DONE and self.is_good


def run_episode(microscope: VirtualMicroscope, pipeline: Pipeline, max_frames: int = 100) -> Episode:
    """Run the loop until DONE or GIVE-UP, or for `max_frames` frames."""
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
        scan = microscope.scan()  # ground truth of the settings that GIVE-UP moved to
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
    """Answer a frame as read from its files, with the losses of JPEG and the rounding of the parameter text.

    Args:
        pipeline: models and rules.
        run: the run so far; None at its start.
        stem: name of the frame.
        parameters: settings of the scan.
        image: uint8 (H, W), grey, as scanned.
    """
    read = parse_parameters(format_parameters(parameters).encode())
    return pipeline.answer(run, stem, read, decode_image(encode_image(image, ImageFormat.JPG), ".jpg"))
