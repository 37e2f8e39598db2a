"""The scoring machine's errors on rendered frames beside those that the twin draws for it.

Fields are swept through focus, and each place is scanned twice, well exposed, and once anyhow. Four numbers tell how a
scoring machine errs: by how much it misreads a field near focus, how far it is off far from focus, how much two scans
of the same settings differ, and what a bad exposure does. Frames in doubt are left out: no run goes by their scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from semd.domain.exposure import ExposureRange, measure_exposure
from semd.domain.frame_score import FrameScore
from semd.simulator.field import Sample
from semd.simulator.microscope import VirtualMicroscope
from semd.simulator.twin_frames import exposure_defect, take_frames
from semd.simulator.twin_scene import SHIPPED_SCORER, draw_scenes

DEFOCUS_U = (-25.0, -16.0, -10.0, -6.0, -3.5, -2.0, -1.0, -0.4, 0.4, 1.0, 2.0, 3.5, 6.0, 10.0, 16.0, 25.0)
NEAR_QUALITY, FAR_QUALITY = 8.5, 5.0
LEAST_RATIO, MOST_RATIO = 0.8, 2.0
"""What the twin's errors may be of the scoring machine's: rather a little too large than too small."""
_TWIN_FIELDS = 1000
_LEAST_SEEN = 0.999
_LEAST_DEFECT = 0.5
_SETTINGS = (0.0, 100.0)

Errors = NDArray[np.float64]
Judge = Callable[[NDArray[np.uint8], float], FrameScore]
"""The scoring machine: a frame, uint8 (480, 640), and its magnification."""


@dataclass(frozen=True, slots=True)
class ScoreErrors:
    """Standard deviations in points.

    Attributes:
        near: of a field's mean error where its quality is at least 8.5.
        far: of the error where the quality is at most 5.
        repeated: of two scans with the same settings about their mean.
        exposure: of what a bad exposure changes, brightness and contrast drawn anywhere; of defects of 0.5 and more.
    """

    near: float
    far: float
    repeated: float
    exposure: float


@dataclass(frozen=True, slots=True)
class TwinErrors:
    """Both, and how many fields were rendered."""

    rendered_fields: int
    rendered: ScoreErrors
    twin: ScoreErrors

    @property
    def beyond(self) -> tuple[str, ...]:
        """Figures of the twin that are much smaller or larger."""
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
    judge: Judge,
    track: Callable[[Sequence[tuple[Sample, int]]], Iterable[tuple[Sample, int]]],
) -> TwinErrors:
    """Measure the errors on `seeds` fields of every cell, and on a thousand scenes of the twin.

    Args:
        cells: samples and magnifications.
        seeds: fields of each.
        judge: the scoring machine.
        track: shows progress while it hands the cells through.
    """
    swept = [
        _sweep(VirtualMicroscope(sample, magnification, seed), judge, seed)
        for sample, magnification in track(cells)
        for seed in range(seeds)
    ]
    return TwinErrors(len(swept), _summary(_stacked(swept)), _summary(_sweep_twin(_TWIN_FIELDS)))


@dataclass(frozen=True, slots=True)
class _Sweeps:
    """Scans of some fields, or of one without the first axis; NaN where a frame is doubted or not fully recognised.

    Attributes:
        quality: of the scans of each place, two well exposed and one anyhow, float64 (fields, places, 3).
        error: of their scores, likewise.
        defect: of the third's exposure, float64 (fields, places).
    """

    quality: Errors
    error: Errors
    defect: Errors


def _stacked(swept: Sequence[_Sweeps]) -> _Sweeps:
    return _Sweeps(*(np.stack([getattr(each, column.name) for each in swept]) for column in fields(_Sweeps)))


def _sweep(microscope: VirtualMicroscope, judge: Judge, seed: int) -> _Sweeps:
    """Sweep a field; `seed` is of the settings drawn."""
    rng = np.random.default_rng([seed, 67])
    optimum = (microscope.detector.brightness_optimum, microscope.detector.contrast_optimum)
    quality, error = np.full((2, len(DEFOCUS_U), 3), np.nan)
    defect = np.zeros(len(DEFOCUS_U))
    for place, defocus_u in enumerate(DEFOCUS_U):
        settings = np.array([optimum, optimum, rng.uniform(*_SETTINGS, 2)])
        for scan, (brightness, contrast) in enumerate(settings):
            microscope.apply(
                wd_mm=microscope.focus_wd_mm + defocus_u * microscope.wd_unit_mm,
                brightness=float(brightness),
                contrast=float(contrast),
            )
            seen = microscope.scan()
            defect[place] = ExposureRange().defect(measure_exposure(np.bincount(seen.image.ravel(), minlength=256)))
            judged = judge(seen.image, microscope.magnification)
            if seen.truth.recognisability > _LEAST_SEEN and not judged.flags:
                quality[place, scan] = seen.truth.quality
                error[place, scan] = judged.score - seen.truth.true_score
    return _Sweeps(quality, error, defect)


def _sweep_twin(count: int) -> _Sweeps:
    """Sweep scenes of the twin."""
    rng = np.random.default_rng(61)
    scenes = draw_scenes(count, SHIPPED_SCORER, rng)
    quality, error = np.full((2, count, len(DEFOCUS_U), 3), np.nan)
    defect = np.zeros((count, len(DEFOCUS_U)))
    optimum = (scenes.brightness_at, scenes.contrast_at)
    for place, defocus_u in enumerate(DEFOCUS_U):
        settings = np.array([optimum, optimum, rng.uniform(*_SETTINGS, (2, count))])
        for scan, (brightness, contrast) in enumerate(settings):
            seen = take_frames(scenes, scenes.focus_u + defocus_u, brightness, contrast, ExposureRange(), rng)
            defect[:, place] = exposure_defect(seen.black, seen.white, seen.level, seen.contrast, ExposureRange())
            whole = seen.true_score > _LEAST_SEEN * seen.quality
            quality[whole, place, scan] = seen.quality[whole]
            error[whole, place, scan] = (seen.score - seen.true_score)[whole]
    return _Sweeps(quality, error, defect)


def _summary(swept: _Sweeps) -> ScoreErrors:
    """The four numbers, of the sweeps of some fields."""
    quality, error = swept.quality[..., :2], swept.error[..., :2]
    near = [each[there].mean() for each, there in zip(error, quality >= NEAR_QUALITY, strict=True) if there.any()]
    far = error[quality <= FAR_QUALITY]
    twice = (error[..., 0] - error[..., 1])[quality.min(axis=2) >= NEAR_QUALITY]
    changed = swept.error[..., 2] - error.mean(axis=2)
    is_bad = (swept.defect >= _LEAST_DEFECT) & np.isfinite(changed)
    return ScoreErrors(
        near=_rms(np.array(near)),
        far=_rms(far),
        repeated=_rms(twice) / math.sqrt(2.0),
        exposure=_rms(changed[is_bad]),
    )


def _rms(values: Errors) -> float:
    """Root of the mean square; not a number where there are none."""
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else math.nan
