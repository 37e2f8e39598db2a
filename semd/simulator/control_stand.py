"""The virtual microscope as the control machine's test stand, and closed-loop figures on its images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from semd.control.closed_loop import RunRecord, run_closed_loop
from semd.control.microscope import Score, Shot
from semd.domain.action import round_target
from semd.domain.axes import Axis, Parameters
from semd.domain.limits import AxisLimits
from semd.domain.rules import RunRules
from semd.domain.run import Policy
from semd.simulator.field import Sample
from semd.simulator.microscope import VirtualMicroscope

_SOON_FRAMES = 25
"""The paper's mark: the best image within 25 frames."""


class SimulatedStand:
    """A `control.microscope.Microscope` over a `VirtualMicroscope`; parameters are rounded as the text files are."""

    def __init__(self, microscope: VirtualMicroscope) -> None:
        """Take the microscope over."""
        self.microscope = microscope

    def scan(self) -> Shot:
        """Scan with the present settings."""
        scan = self.microscope.scan()
        return Shot(
            image=scan.image,
            parameters=Parameters(
                magnification=self.microscope.magnification,
                wd_mm=round_target(Axis.WD, scan.wd_mm),
                brightness=round_target(Axis.BRIGHTNESS, scan.brightness),
                contrast=round_target(Axis.CONTRAST, scan.contrast),
            ),
            quality=scan.truth.quality,
            exposure_ok=scan.truth.brightness_contrast_ok,
            wd_error_mm=scan.truth.wd_error_mm,
        )

    def apply(self, targets: Mapping[Axis, float]) -> None:
        """Move the axes named to absolute targets."""
        self.microscope.apply(
            wd_mm=targets.get(Axis.WD),
            brightness=targets.get(Axis.BRIGHTNESS),
            contrast=targets.get(Axis.CONTRAST),
        )


@dataclass(frozen=True, slots=True)
class StandRow:
    """One closed-loop run: where, how it went, and the working distance's error at its end in focus units."""

    sample: Sample
    magnification: float
    seed: int
    record: RunRecord
    wd_error_u: float


@dataclass(frozen=True, slots=True)
class StandFigures:
    """Figures of a set of runs, as in the paper's table of results.

    Attributes:
        runs: how many.
        success_25: share DONE within 25 frames.
        true_success_25: share DONE within 25 frames on a frame that is good by the truth.
        exposure_success: share whose last frame has a suitable brightness and contrast.
        wd_rmse_mm: root mean square of the last frames' error in working distance.
        wd_rmse_u: the same in focus units.
        median_frames: median of the frames taken by runs that ended in DONE, or not a number.
        p90_frames: their 90th percentile, or not a number.
        final_score: mean of the scoring machine's last scores.
        final_quality: mean true focus quality of the last frames.
    """

    runs: int
    success_25: float
    true_success_25: float
    exposure_success: float
    wd_rmse_mm: float
    wd_rmse_u: float
    median_frames: float
    p90_frames: float
    final_score: float
    final_quality: float


def stand_rules(rules: RunRules, microscope: VirtualMicroscope) -> RunRules:
    """The rules with the microscope's own limits."""
    limits = microscope.limits
    return replace(
        rules,
        limits={
            Axis.WD: AxisLimits(*limits.wd_mm),
            Axis.BRIGHTNESS: AxisLimits(*limits.brightness),
            Axis.CONTRAST: AxisLimits(*limits.contrast),
        },
    )


def evaluate_on_images(
    policy: Policy,
    score: Score,
    rules: RunRules,
    *,
    samples: Sequence[Sample],
    magnifications: Sequence[float],
    seeds: Sequence[int],
) -> Iterator[StandRow]:
    """Run closed loops on rendered frames, every sample at every magnification with every seed; yields as it goes."""
    for sample in samples:
        for magnification in magnifications:
            for seed in seeds:
                microscope = VirtualMicroscope(sample, magnification, seed)
                record = run_closed_loop(
                    SimulatedStand(microscope), score, policy, stand_rules(rules, microscope)
                )
                error_u = record.last.wd_error_mm / microscope.wd_unit_mm
                yield StandRow(sample, magnification, seed, record, error_u)


def summarise(rows: Sequence[StandRow]) -> StandFigures:
    """Count a set of runs together; at least one."""
    records = [row.record for row in rows]
    soon = [record.passed and record.frames <= _SOON_FRAMES for record in records]
    taken = [record.frames for record in records if record.passed] or [math.nan]
    return StandFigures(
        runs=len(records),
        success_25=float(np.mean(soon)),
        true_success_25=float(
            np.mean([early and record.truly_good for early, record in zip(soon, records, strict=True)])
        ),
        exposure_success=float(np.mean([record.last.exposure_ok for record in records])),
        wd_rmse_mm=math.sqrt(float(np.mean([record.last.wd_error_mm**2 for record in records]))),
        wd_rmse_u=math.sqrt(float(np.mean([row.wd_error_u**2 for row in rows]))),
        median_frames=float(np.median(taken)),
        p90_frames=float(np.percentile(taken, 90)),
        final_score=float(np.mean([record.scores[-1] for record in records])),
        final_quality=float(np.mean([record.last.quality for record in records])),
    )
