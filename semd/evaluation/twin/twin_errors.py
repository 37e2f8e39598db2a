"""Score errors of the scoring machine on rendered frames, compared with the errors that the twin draws.

Fields are swept through focus. Each working distance is scanned twice at good settings and once at random brightness
and contrast. Four standard deviations describe the errors: of a field's mean error near focus, of the error far from
focus, of repeated scans, and of the change by a bad exposure. Frames with a quality flag are left out, since no
decision uses their scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from semd.domain.exposure import ExposureRange, measure_exposure
from semd.domain.frame_score import FrameScore
from semd.reporting.table import Column, TextTable
from semd.simulator.field import Sample
from semd.simulator.microscope import VirtualMicroscope
from semd.simulator.twin_frames import exposure_defect, take_frames
from semd.simulator.twin_scene import SHIPPED_SCORER, draw_scenes

DEFOCUS_U = (-25.0, -16.0, -10.0, -6.0, -3.5, -2.0, -1.0, -0.4, 0.4, 1.0, 2.0, 3.5, 6.0, 10.0, 16.0, 25.0)
NEAR_QUALITY, FAR_QUALITY = 8.5, 5.0
MIN_RATIO, MAX_RATIO = 0.8, 2.0
"""Accepted range of the twin's errors relative to the scoring machine's; chosen, rather too large than too small."""
_TWIN_FIELDS = 1000
_MIN_RECOGNISABILITY = 0.999
_MIN_DEFECT = 0.5
_SETTINGS = (0.0, 100.0)

Errors = NDArray[np.float64]
Judge = Callable[[NDArray[np.uint8], float], FrameScore]
"""Scoring machine: takes a frame, uint8 (480, 640), and its magnification."""


@dataclass(frozen=True, slots=True)
class ScoreErrors:
    """Standard deviations of score errors, in points.

    Attributes:
        near: of a field's mean error where its true focus quality is at least 8.5.
        far: of the error where the true focus quality is at most 5.
        repeated: of two scans with the same settings about their mean.
        exposure: of the change of the score by a random exposure with a defect of at least 0.5.
    """

    near: float
    far: float
    repeated: float
    exposure: float


@dataclass(frozen=True, slots=True)
class TwinErrors:
    """Score errors on rendered frames and on the twin, and the number of rendered fields."""

    rendered_fields: int
    rendered: ScoreErrors
    twin: ScoreErrors

    @property
    def beyond(self) -> tuple[str, ...]:
        """Names of the twin's errors outside the accepted range."""
        real, twin = asdict(self.rendered), asdict(self.twin)
        # Negated, so that NaN counts as outside.
        return tuple(name for name in real if not MIN_RATIO * real[name] <= twin[name] <= MAX_RATIO * real[name])

    def as_text(self) -> str:
        """Format the table for a terminal."""
        names = [each.name for each in fields(ScoreErrors)]
        # The space behind an accepted figure keeps the decimal points in line.
        rendered = [f"{getattr(self.rendered, name):.3f} " for name in names]
        twin = [f"{getattr(self.twin, name):.3f}{'*' if name in self.beyond else ' '}" for name in names]
        return TextTable(
            columns=(Column("error of the score, points", align="left"), *(Column(f"{name} ") for name in names)),
            rows=(("rendered", *rendered), ("twin", *twin)),
            notes=(f"{self.rendered_fields} fields; * not {MIN_RATIO:g} to {MAX_RATIO:g} times as large",),
        ).as_text()

    def as_json(self) -> dict[str, object]:
        """Return all figures."""
        return asdict(self) | {"beyond": self.beyond}


def compare_errors(
    cells: Sequence[tuple[Sample, int]],
    seeds: int,
    judge: Judge,
    track: Callable[[Sequence[tuple[Sample, int]]], Iterable[tuple[Sample, int]]],
) -> TwinErrors:
    """Measure the score errors on `seeds` fields of every cell, and on a thousand scenes of the twin.

    Args:
        cells: samples and magnifications.
        seeds: number of fields of each cell.
        judge: the scoring machine.
        track: progress display that passes the cells through.
    """
    swept = [
        _sweep(VirtualMicroscope(sample, magnification, seed), judge, seed)
        for sample, magnification in track(cells)
        for seed in range(seeds)
    ]
    return TwinErrors(len(swept), _summary(_stacked(swept)), _summary(_sweep_twin(_TWIN_FIELDS)))


@dataclass(frozen=True, slots=True)
class _Sweeps:
    """Scans of some fields, or of one field without the first axis; NaN where a frame is flagged or not recognisable.

    Attributes:
        quality: true focus quality of the two well exposed scans and the one at random exposure of each place,
            float64 (fields, places, 3).
        error: score less true score, of the same shape.
        defect: exposure defect of the third scan, float64 (fields, places).
    """

    quality: Errors
    error: Errors
    defect: Errors


def _stacked(swept: Sequence[_Sweeps]) -> _Sweeps:
    return _Sweeps(*(np.stack([getattr(each, column.name) for each in swept]) for column in fields(_Sweeps)))


def _sweep(microscope: VirtualMicroscope, judge: Judge, seed: int) -> _Sweeps:
    """Sweep a rendered field; `seed` determines the random brightness and contrast."""
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
            if seen.truth.recognisability > _MIN_RECOGNISABILITY and not judged.flags:
                quality[place, scan] = seen.truth.quality
                error[place, scan] = judged.score - seen.truth.true_score
    return _Sweeps(quality, error, defect)


def _sweep_twin(count: int) -> _Sweeps:
    """Sweep `count` scenes of the twin."""
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
            whole = seen.true_score > _MIN_RECOGNISABILITY * seen.quality
            quality[whole, place, scan] = seen.quality[whole]
            error[whole, place, scan] = (seen.score - seen.true_score)[whole]
    return _Sweeps(quality, error, defect)


def _summary(swept: _Sweeps) -> ScoreErrors:
    """Compute the four standard deviations from the sweeps of some fields."""
    quality, error = swept.quality[..., :2], swept.error[..., :2]
    near = [each[there].mean() for each, there in zip(error, quality >= NEAR_QUALITY, strict=True) if there.any()]
    far = error[quality <= FAR_QUALITY]
    twice = (error[..., 0] - error[..., 1])[quality.min(axis=2) >= NEAR_QUALITY]
    changed = swept.error[..., 2] - error.mean(axis=2)
    is_bad = (swept.defect >= _MIN_DEFECT) & np.isfinite(changed)
    return ScoreErrors(
        near=_rms(np.array(near)),
        far=_rms(far),
        repeated=_rms(twice) / math.sqrt(2.0),
        exposure=_rms(changed[is_bad]),
    )


def _rms(values: Errors) -> float:
    """Root mean square; NaN for no values."""
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else math.nan
