"""The feature-level twin beside rendered frames: what both measure as functions of defocus, brightness and contrast.

The score is left out but for the true focus quality: the twin draws a scoring machine's errors at will.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from semd.domain.exposure import ExposureRange, measure_exposure
from semd.domain.features import grey_histogram, measure_features
from semd.simulator.field import Sample
from semd.simulator.microscope import Scan, VirtualMicroscope
from semd.simulator.twin_fit import fit_scene
from semd.simulator.twin_frames import take_frames

DEFOCUS_U = (-30.0, -12.0, -5.0, -2.0, 0.0, 2.0, 5.0, 12.0, 30.0)
EXPOSURES = ((0.0, 0.0), (-20.0, 0.0), (20.0, 0.0), (0.0, -24.0), (0.0, 24.0), (-20.0, 16.0), (20.0, 16.0))
"""Brightness and contrast, less the field's optimum."""

MEASURED = ("avg", "grd", "var", "contrast", "clipped", "quality")
TOLERANCES = {"avg": 0.04, "grd": 0.05, "var": 0.08, "contrast": 0.12, "clipped": 0.08, "quality": 0.5}
"""Largest root mean square difference in a cell: AVG -1..1, GRD and VAR 0..1 as the networks see them, contrast as a
share of full scale, clipped pixels as a share of the frame, focus quality in points."""
LEAST_AGREEMENT = 0.95
"""Share of the frames whose brightness and contrast both must judge alike."""

Cell = tuple[Sample, int]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Likeness:
    """One cell: fields of one sample at one magnification.

    Attributes:
        sample, magnification: of the cell.
        frames: number compared.
        rms: root mean square difference of each of `MEASURED`.
        bias: mean of twin less rendered.
        exposure_agrees: share of frames for which both say the same of brightness and contrast.
    """

    sample: str
    magnification: int
    frames: int
    rms: dict[str, float]
    bias: dict[str, float]
    exposure_agrees: float

    @property
    def beyond(self) -> tuple[str, ...]:
        """Figures that differ by more than is tolerated."""
        far = [name for name, most in TOLERANCES.items() if self.rms[name] > most]
        return (*far, *(["exposure"] if self.exposure_agrees < LEAST_AGREEMENT else []))


@dataclass(frozen=True, slots=True)
class TwinFindings:
    """All cells."""

    cells: tuple[Likeness, ...]

    @property
    def is_like(self) -> bool:
        """True where every cell is within the tolerances."""
        return not any(cell.beyond for cell in self.cells)

    def as_text(self) -> str:
        """A table for a terminal."""
        lines = [f"{'twin less rendered, RMS':24}" + "".join(f"{name:>11} " for name in (*MEASURED, "exposure"))]
        for cell in self.cells:
            shown = {**cell.rms, "exposure": cell.exposure_agrees}
            numbers = "".join(f"{value:>11.3f}{'*' if name in cell.beyond else ' '}" for name, value in shown.items())
            lines.append(f"{f'{cell.sample} x{cell.magnification}':24}{numbers}")
        lines.append(
            f"{'tolerated':24}" + "".join(f"{most:>11.3f} " for most in (*TOLERANCES.values(), LEAST_AGREEMENT))
        )
        frames = sum(cell.frames for cell in self.cells)
        lines.append(f"{frames} frames; exposure: share judged alike; * not tolerated")
        return "\n".join(lines)

    def as_json(self) -> dict[str, object]:
        """Everything."""
        return {
            "is_like": self.is_like,
            "tolerances": {**TOLERANCES, "exposure": LEAST_AGREEMENT},
            "cells": [asdict(cell) | {"beyond": cell.beyond} for cell in self.cells],
        }


def compare_twin(cells: Sequence[Cell], fields: int, track: Callable[[Sequence[Cell]], Iterable[Cell]]) -> TwinFindings:
    """Measure every cell on `fields` fields, seeds 0..; see `compare_field`.

    Args:
        cells: samples and magnifications.
        fields: fields of each.
        track: shows progress while it hands the cells through.
    """
    return TwinFindings(tuple(_compare_cell(sample, magnification, fields) for sample, magnification in track(cells)))


def _compare_cell(sample: Sample, magnification: int, fields: int) -> Likeness:
    differences, agrees = zip(
        *(compare_field(VirtualMicroscope(sample, magnification, seed)) for seed in range(fields)), strict=True
    )
    error = np.concatenate(differences)
    return Likeness(
        sample=sample,
        magnification=magnification,
        frames=len(error),
        rms=dict(zip(MEASURED, np.sqrt((error**2).mean(axis=0)).tolist(), strict=True)),
        bias=dict(zip(MEASURED, error.mean(axis=0).tolist(), strict=True)),
        exposure_agrees=float(np.concatenate(agrees).mean()),
    )


def compare_field(microscope: VirtualMicroscope) -> tuple[Values, NDArray[np.bool_]]:
    """Scan one field through focus at several exposures, and do the same on the twin's nearest scene.

    Returns:
        Twin less rendered for `MEASURED`, float64 (K, 6), and whether both judge the exposure alike, bool (K,).
    """
    settings: list[tuple[float, float, float]] = []
    rendered: list[Values] = []
    exposure_ok: list[bool] = []
    focus_mm, optimum = microscope.focus_wd_mm, microscope.detector
    for defocus_u in DEFOCUS_U:
        for brighter, richer in EXPOSURES:
            microscope.apply(
                wd_mm=focus_mm + defocus_u * microscope.wd_unit_mm,
                brightness=optimum.brightness_optimum + brighter,
                contrast=optimum.contrast_optimum + richer,
            )
            scan = microscope.scan()
            settings.append(((scan.wd_mm - focus_mm) / microscope.wd_unit_mm, scan.brightness, scan.contrast))
            rendered.append(_measure(scan))
            exposure_ok.append(scan.truth.brightness_contrast_ok)
    rng = np.random.default_rng(len(settings))
    scenes = fit_scene(microscope, len(settings), rng)
    wd_u, brightness, contrast = np.array(settings).T
    frames = take_frames(scenes, wd_u, brightness, contrast, ExposureRange(), rng)
    clipped = frames.black + frames.white
    twin = np.column_stack((frames.avg, frames.grd, frames.var, frames.contrast / 255.0, clipped, frames.quality))
    return twin - np.array(rendered), frames.exposure_ok == np.array(exposure_ok)


def _measure(scan: Scan) -> Values:
    """`MEASURED` of a rendered frame, (6,)."""
    histogram = grey_histogram(scan.image)
    features, exposure = measure_features(scan.image, histogram), measure_exposure(histogram)
    return np.array(
        [
            features.avg_normalised,
            features.grd_normalised,
            features.var_normalised,
            exposure.contrast / 255.0,
            exposure.black + exposure.white,
            scan.truth.quality,
        ]
    )
