"""`semd evaluate reward`: the reward (6) over brightness and contrast at focus, and the quality of its maximum.

VAR alone rewards clipped frames with too much contrast, and GRD rewards noise. The reward is therefore measured on a
grid of brightness and contrast around the optimum of each field, in the published form (c1 = c2 = 1, no exposure term)
and in ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from semd.domain.exposure import ExposureRange, measure_exposure
from semd.domain.features import grey_histogram, measure_features
from semd.domain.observation import Measurement
from semd.domain.reward import PAPER_WEIGHTS, RewardWeights, reward
from semd.pipeline import ScoringMachine
from semd.reporting.saving import save_report
from semd.reporting.table import Cell, Column, Row, TextTable
from semd.simulator.field import Sample
from semd.simulator.microscope import VirtualMicroscope

REACH = 40.0
"""Half-width of the grid about the field's optimum, in units of the brightness and contrast settings; chosen."""
WEIGHTS = {"semd": RewardWeights(), "paper's form": PAPER_WEIGHTS}


@dataclass(frozen=True, slots=True)
class RewardGrid:
    """Rewards of one field in focus, on a grid of brightness and contrast.

    Attributes:
        sample, magnification, seed: of the field.
        offsets: settings less the optimum, float64 (G,), for both axes.
        good: True where brightness (rows) and contrast (columns) are good by the ground truth, bool (G, G).
        rewards: equation (6) for each of `WEIGHTS`, float64 (G, G).
    """

    sample: Sample
    magnification: int
    seed: int
    offsets: NDArray[np.float64]
    good: NDArray[np.bool_]
    rewards: dict[str, NDArray[np.float64]]

    def best_is_good(self, name: str) -> bool:
        """Return True if the setting with the highest reward is good by the ground truth."""
        return bool(self.good.flat[int(self.rewards[name].argmax())])

    def best_offset(self, name: str) -> tuple[float, float]:
        """Brightness and contrast with the highest reward, less the optimum."""
        row, column = np.unravel_index(int(self.rewards[name].argmax()), self.good.shape)
        return float(self.offsets[row]), float(self.offsets[column])


def measure_grid(
    scorer: ScoringMachine, sample: Sample, magnification: int, seed: int, steps: int, good: ExposureRange
) -> RewardGrid:
    """Scan a field in focus at `steps` x `steps` settings and compute the rewards.

    Args:
        scorer: the scoring machine.
        sample: sample of the field.
        magnification: magnification of the field.
        seed: seed of the field.
        steps: number of settings of each axis, at least 2.
        good: good range of the exposure in the reward.
    """
    microscope = VirtualMicroscope(sample, magnification, seed)
    microscope.apply(wd_mm=microscope.focus_wd_mm)
    offsets = np.linspace(-REACH, REACH, steps)
    suits = np.zeros((steps, steps), bool)
    rewards = {name: np.zeros((steps, steps)) for name in WEIGHTS}
    for row, brighter in enumerate(offsets):
        for column, richer in enumerate(offsets):
            microscope.apply(
                brightness=microscope.detector.brightness_optimum + brighter,
                contrast=microscope.detector.contrast_optimum + richer,
            )
            scan = microscope.scan()
            histogram = grey_histogram(scan.image)
            judged = scorer.judge(scan.image, magnification)
            measured = Measurement(
                judged.score, measure_features(scan.image, histogram), measure_exposure(histogram), judged.sigma
            )
            suits[row, column] = scan.truth.brightness_contrast_ok
            for name, weights in WEIGHTS.items():
                rewards[name][row, column] = reward(measured, weights, good)
    return RewardGrid(sample, magnification, seed, offsets, suits, rewards)


@dataclass(frozen=True, slots=True)
class RewardFindings:
    """Reward grids of all fields."""

    grids: tuple[RewardGrid, ...]

    def shares(self) -> dict[str, float]:
        """Share of fields whose highest reward is at a good setting, for each form of the reward."""
        return {name: float(np.mean([grid.best_is_good(name) for grid in self.grids])) for name in WEIGHTS}

    def as_text(self) -> str:
        """Format the table for a terminal."""
        columns = [Column("field", align="left")]
        for name in WEIGHTS:
            columns += [Column(name), Column("B", form="{:+.1f}"), Column("C", form="{:+.1f}")]
        rows: list[Row] = []
        for grid in self.grids:
            cells: list[Cell] = []
            for name in WEIGHTS:
                brighter, richer = grid.best_offset(name)
                cells += ["good" if grid.best_is_good(name) else "not good", brighter, richer]
            rows.append((f"{grid.sample} x{grid.magnification} #{grid.seed}", *cells))
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in self.shares().items())
        return TextTable(
            columns=tuple(columns),
            rows=tuple(rows),
            notes=(
                f"the best reward is a good picture, share of {len(self.grids)} fields: {shares}",
                "B, C: brightness and contrast of the best reward, less the field's optimum",
            ),
        ).as_text()

    def as_json(self) -> dict[str, object]:
        """Return all figures."""
        grids = [
            asdict(grid)
            | {
                "offsets": grid.offsets.tolist(),
                "good": grid.good.tolist(),
                "rewards": {name: values.tolist() for name, values in grid.rewards.items()},
            }
            for grid in self.grids
        ]
        return {"best_reward_is_good": self.shares(), "grids": grids}

    def save(self, directory: Path) -> None:
        """Write `reward.txt`, `reward.json` and `reward.png`; create the directory.

        Raises:
            StorageError, OSError: the directory cannot be written.
        """
        save_report(directory, texts={"reward.txt": self.as_text()}, values={"reward.json": self.as_json()})
        save_reward_figure(directory / "reward.png", self.grids)


def evaluate_reward(
    scorer: ScoringMachine,
    fields: Sequence[tuple[Sample, int, int]],
    steps: int,
    good: ExposureRange,
    track: Callable[[Sequence[tuple[Sample, int, int]]], Iterable[tuple[Sample, int, int]]],
) -> RewardFindings:
    """Measure a grid for each field (sample, magnification, seed); see `measure_grid`."""
    return RewardFindings(
        tuple(
            measure_grid(scorer, sample, magnification, seed, steps, good)
            for sample, magnification, seed in track(fields)
        )
    )


def save_reward_figure(path: Path, grids: Sequence[RewardGrid]) -> None:
    """Save a PNG of each field's rewards, with the good settings outlined and the highest reward marked."""
    figure = Figure(figsize=(2.6 * len(grids), 2.6 * len(WEIGHTS) + 0.6), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(WEIGHTS), len(grids), squeeze=False, sharex=True, sharey=True)
    for line, name in zip(panels, WEIGHTS, strict=True):
        for axes, grid in zip(line, grids, strict=True):
            axes.pcolormesh(grid.offsets, grid.offsets, grid.rewards[name], cmap="viridis", shading="nearest")
            if grid.good.any() and not grid.good.all():
                axes.contour(grid.offsets, grid.offsets, grid.good.astype(float), levels=[0.5], colors="white")
            brighter, richer = grid.best_offset(name)
            axes.plot(richer, brighter, "x", color="#d62728", ms=8, mew=2)
            axes.set_title(f"{grid.sample} x{grid.magnification}\n{name}", fontsize=8)
    figure.supxlabel("contrast less optimum; white: good by the truth, cross: best reward", fontsize=9)
    figure.supylabel("brightness less optimum", fontsize=9)
    figure.savefig(path)
