"""Fig. 8 of the paper, from ground truth: rise of the score frame by frame in each cell of Table I."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from semd.evaluation.control.episode import GOOD_SCORE, Episode
from semd.evaluation.control.table_one import FRAME_BUDGET, PAPER_TABLE

_INK, _OURS, _PAPER = "#1f2933", "#1f77b4", "#d62728"


def save_fig8(path: Path, groups: Mapping[tuple[str, int], Sequence[Episode]]) -> None:
    """Save a PNG with one panel for each cell: median and 10th to 90th percentile of the true score.

    An ended run keeps its final score. The dashed line is the paper's average final score in the cell.
    """
    samples = list(dict.fromkeys(sample for sample, _ in groups))
    magnifications = sorted({magnification for _, magnification in groups})
    size = (2.9 * len(magnifications) + 0.6, 2.5 * len(samples) + 0.6)
    figure = Figure(figsize=size, layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(samples), len(magnifications), squeeze=False, sharex=True, sharey=True)
    number = np.arange(1, FRAME_BUDGET + 1)
    for line, sample in zip(panels, samples, strict=True):
        for axes, magnification in zip(line, magnifications, strict=True):
            axes.set_title(f"{sample} x{magnification}", loc="left", fontsize=9, color=_INK)
            axes.axhline(GOOD_SCORE, color="#9aa5b1", lw=0.8)
            episodes = groups.get((sample, magnification))
            if episodes:
                low, median, high = np.percentile([true_path(each) for each in episodes], (10, 50, 90), axis=0)
                axes.fill_between(number, low, high, color=_OURS, alpha=0.25, lw=0)
                axes.plot(number, median, color=_OURS, lw=1.6, label="semd: median, 10..90 %")
            if (sample, magnification) in PAPER_TABLE:
                final = PAPER_TABLE[sample, magnification][2]
                axes.axhline(final, color=_PAPER, lw=1.0, ls="--", label="paper: average final score")
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
    panels[0][0].set_ylim(0.0, 10.2)
    panels[0][0].legend(frameon=False, fontsize=7, loc="lower right")
    figure.supxlabel("frame", fontsize=10)
    figure.supylabel("true score", fontsize=10)
    figure.savefig(path)


def true_path(episode: Episode) -> list[float]:
    """True scores of the frames 1..`FRAME_BUDGET`; after the end of a run, its final true score."""
    path = list(episode.path[:FRAME_BUDGET])
    return path + [episode.true_score] * (FRAME_BUDGET - len(path))
