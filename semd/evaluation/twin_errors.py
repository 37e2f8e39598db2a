"""The scoring machine's errors on rendered frames beside those that the twin draws for it.

Fields are swept through focus, well exposed, and each place is scanned twice. Three numbers tell how a scoring machine
errs: by how much it misreads a field near focus, how far it is off far from focus, and how much two scans of the same
settings differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from semd.domain.exposure import ExposureRange
from semd.simulator.field import Sample
from semd.simulator.microscope import VirtualMicroscope
from semd.simulator.twin_frames import take_frames
from semd.simulator.twin_scene import SHIPPED_SCORER, draw_scenes

DEFOCUS_U = (-25.0, -16.0, -10.0, -6.0, -3.5, -2.0, -1.0, -0.4, 0.4, 1.0, 2.0, 3.5, 6.0, 10.0, 16.0, 25.0)
NEAR_QUALITY, FAR_QUALITY = 8.5, 5.0
LEAST_RATIO, MOST_RATIO = 0.8, 2.0
"""What the twin's errors may be of the scoring machine's: rather a little too large than too small."""
_TWIN_FIELDS = 1000
_LEAST_SEEN = 0.999

Errors = NDArray[np.float64]
Score = Callable[[NDArray[np.uint8], float], float]
"""A frame, uint8 (480, 640), and its magnification to a score."""


@dataclass(frozen=True, slots=True)
class ScoreErrors:
    """Standard deviations in points.

    Attributes:
        near: of a field's mean error where its quality is at least 8.5.
        far: of the error where the quality is at most 5.
        repeated: of two scans with the same settings about their mean.
    """

    near: float
    far: float
    repeated: float


@dataclass(frozen=True, slots=True)
class TwinErrors:
    """Both, and how many fields were rendered."""

    rendered_fields: int
    rendered: ScoreErrors
    twin: ScoreErrors

    @property
    def beyond(self) -> tuple[str, ...]:
        """What of the twin's is much smaller or larger."""
        real, twin = asdict(self.rendered), asdict(self.twin)
        # Written so that an error that is not a number is beyond.
        return tuple(name for name in real if not LEAST_RATIO * real[name] <= twin[name] <= MOST_RATIO * real[name])

    def as_text(self) -> str:
        """A table for a terminal."""
        names = [each.name for each in fields(ScoreErrors)]
        rows = [("rendered", self.rendered), ("twin", self.twin)]
        lines = [f"{'error of the score, points':28}" + "".join(f"{name:>11} " for name in names)]
        for title, errors in rows:
            marks = ["*" if title == "twin" and name in self.beyond else " " for name in names]
            numbers = "".join(f"{getattr(errors, name):>11.3f}{mark}" for name, mark in zip(names, marks, strict=True))
            lines.append(f"{title:28}{numbers}")
        lines.append(f"{self.rendered_fields} fields; * not {LEAST_RATIO:g} to {MOST_RATIO:g} times as large")
        return "\n".join(lines)

    def as_json(self) -> dict[str, object]:
        """Everything."""
        return asdict(self) | {"beyond": self.beyond}


def compare_errors(
    cells: Sequence[tuple[Sample, int]],
    seeds: int,
    score: Score,
    track: Callable[[Sequence[tuple[Sample, int]]], Iterable[tuple[Sample, int]]],
) -> TwinErrors:
    """Measure the errors on `seeds` fields of every cell, and on a thousand scenes of the twin.

    Args:
        cells: samples and magnifications.
        seeds: fields of each.
        score: the scoring machine.
        track: shows progress while it hands the cells through.
    """
    swept = [
        _sweep(VirtualMicroscope(sample, magnification, seed), score)
        for sample, magnification in track(cells)
        for seed in range(seeds)
    ]
    quality, error = (np.stack(column) for column in zip(*swept, strict=True))
    return TwinErrors(len(swept), _summary(quality, error), _summary(*_sweep_twin(_TWIN_FIELDS)))


def _sweep(microscope: VirtualMicroscope, score: Score) -> tuple[Errors, Errors]:
    """Quality and error of a field's scans, float64 (places, 2) each; NaN where it cannot be fully recognised."""
    optimum = microscope.detector
    quality, error = np.full((2, len(DEFOCUS_U), 2), np.nan)
    for place, defocus_u in enumerate(DEFOCUS_U):
        for scan in range(2):
            microscope.apply(
                wd_mm=microscope.focus_wd_mm + defocus_u * microscope.wd_unit_mm,
                brightness=optimum.brightness_optimum,
                contrast=optimum.contrast_optimum,
            )
            seen = microscope.scan()
            if seen.truth.recognisability > _LEAST_SEEN:
                quality[place, scan] = seen.truth.quality
                error[place, scan] = score(seen.image, microscope.magnification) - seen.truth.true_score
    return quality, error


def _sweep_twin(count: int) -> tuple[Errors, Errors]:
    """The same for scenes of the twin, float64 (count, places, 2) each."""
    rng = np.random.default_rng(61)
    scenes = draw_scenes(count, SHIPPED_SCORER, rng)
    quality, error = np.full((2, count, len(DEFOCUS_U), 2), np.nan)
    for place, defocus_u in enumerate(DEFOCUS_U):
        for scan in range(2):
            wd_u = scenes.focus_u + defocus_u
            seen = take_frames(scenes, wd_u, scenes.brightness_at, scenes.contrast_at, ExposureRange(), rng)
            whole = seen.true_score > _LEAST_SEEN * seen.quality
            quality[whole, place, scan] = seen.quality[whole]
            error[whole, place, scan] = (seen.score - seen.true_score)[whole]
    return quality, error


def _summary(quality: Errors, error: Errors) -> ScoreErrors:
    """The three numbers, of fields' sweeps, float64 (fields, places, 2) each."""
    near = [each[there].mean() for each, there in zip(error, quality >= NEAR_QUALITY, strict=True) if there.any()]
    far = error[quality <= FAR_QUALITY]
    twice = (error[..., 0] - error[..., 1])[quality.min(axis=2) >= NEAR_QUALITY]
    return ScoreErrors(
        near=float(np.sqrt(np.mean(np.square(near)))),
        far=float(np.sqrt(np.mean(np.square(far)))),
        repeated=float(np.sqrt(np.mean(np.square(twice)) / 2.0)),
    )
