"""Agreement of the feature-level twin with rendered frames as functions of defocus, brightness and contrast.

Of the score only the true focus quality is compared, since the twin draws the errors of the scoring machine at random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from semd.domain.exposure import ExposureRange, measure_exposure
from semd.domain.features import grey_histogram, measure_features
from semd.reporting.table import Column, TextTable
from semd.simulator.field import Sample
from semd.simulator.microscope import Scan, VirtualMicroscope
from semd.simulator.twin_fit import fit_scene
from semd.simulator.twin_frames import take_frames

DEFOCUS_U = (-30.0, -12.0, -5.0, -2.0, 0.0, 2.0, 5.0, 12.0, 30.0)
EXPOSURES = ((0.0, 0.0), (-20.0, 0.0), (20.0, 0.0), (0.0, -24.0), (0.0, 24.0), (-20.0, 16.0), (20.0, 16.0))
"""Brightness and contrast less the field's optimum."""

MEASURED = ("avg", "grd", "var", "contrast", "clipped", "quality")
TOLERANCES = {"avg": 0.04, "grd": 0.05, "var": 0.08, "contrast": 0.12, "clipped": 0.08, "quality": 0.5}
"""Largest root mean square difference in a cell; chosen. AVG is -1..1, GRD and VAR are 0..1 as the networks receive
them, contrast is a share of full scale, clipped pixels are a share of the frame, focus quality is in points."""
MIN_AGREEMENT = 0.95
"""Smallest share of the frames whose exposure both classify alike; chosen."""

Cell = tuple[Sample, int]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Likeness:
    """Differences between twin and rendered frames in one cell, the fields of one sample at one magnification.

    Attributes:
        sample, magnification: of the cell.
        frames: number of frames compared.
        rms: root mean square difference of each of `MEASURED`.
        bias: mean difference, twin less rendered.
        exposure_agrees: share of frames whose exposure both classify alike.
    """

    sample: str
    magnification: int
    frames: int
    rms: dict[str, float]
    bias: dict[str, float]
    exposure_agrees: float

    @property
    def beyond(self) -> tuple[str, ...]:
        """Names of the quantities outside their tolerance."""
        far = [name for name, most in TOLERANCES.items() if self.rms[name] > most]
        return (*far, *(["exposure"] if self.exposure_agrees < MIN_AGREEMENT else []))


@dataclass(frozen=True, slots=True)
class TwinFindings:
    """Agreement of the twin with rendered frames in all cells."""

    cells: tuple[Likeness, ...]

    @property
    def is_like(self) -> bool:
        """True if every cell is within the tolerances."""
        return not any(cell.beyond for cell in self.cells)

    def as_text(self) -> str:
        """Format the table for a terminal."""
        names = (*MEASURED, "exposure")
        rows = []
        for cell in self.cells:
            shown = {**cell.rms, "exposure": cell.exposure_agrees}
            # The space behind a tolerated figure keeps the decimal points in line.
            numbers = [f"{value:.3f}{'*' if name in cell.beyond else ' '}" for name, value in shown.items()]
            rows.append((f"{cell.sample} x{cell.magnification}", *numbers))
        rows.append(("tolerated", *(f"{most:.3f} " for most in (*TOLERANCES.values(), MIN_AGREEMENT))))
        frames = sum(cell.frames for cell in self.cells)
        return TextTable(
            columns=(Column("twin less rendered, RMS", align="left"), *(Column(f"{name} ") for name in names)),
            rows=tuple(rows),
            notes=(f"{frames} frames; exposure: share judged alike; * not tolerated",),
        ).as_text()

    def as_json(self) -> dict[str, object]:
        """Return all figures."""
        return {
            "is_like": self.is_like,
            "tolerances": {**TOLERANCES, "exposure": MIN_AGREEMENT},
            "cells": [asdict(cell) | {"beyond": cell.beyond} for cell in self.cells],
        }


def compare_twin(cells: Sequence[Cell], fields: int, track: Callable[[Sequence[Cell]], Iterable[Cell]]) -> TwinFindings:
    """Measure every cell on `fields` fields, seeds 0..; see `compare_field`.

    Args:
        cells: samples and magnifications.
        fields: number of fields of each cell.
        track: progress display that passes the cells through.
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
    """Scan one field through focus at several exposures, and repeat the scans on the fitted scene of the twin.

    Returns:
        Twin less rendered for `MEASURED`, float64 (K, 6), and True where both classify the exposure alike, bool (K,).
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
    """Measure the quantities of `MEASURED` on a rendered frame, float64 (6,)."""
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
