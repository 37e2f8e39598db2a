"""Figure of the score tables: RMSE per magnification and per label, one row of panels for each split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from semd.evaluation.score.score_table import LABELS, MAGNIFICATIONS, ScoreRow

_COLOURS = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
INK = "#1f2933"


def save_table_figure(path: Path, splits: Mapping[str, Sequence[ScoreRow]]) -> None:
    """Save a PNG of the rows of each split; the keys of `splits` are the titles."""
    figure = Figure(figsize=(13, 4.6 * len(splits)), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(splits), 2, squeeze=False)
    for line, (title, rows) in zip(panels, splits.items(), strict=True):
        shown = [row for row in rows if row.rmse is not None]
        _curves(line[0], shown, MAGNIFICATIONS, [row.by_magnification for row in shown])
        line[0].set_xticks(range(len(MAGNIFICATIONS)), [f"x{m}" for m in MAGNIFICATIONS])
        _style(line[0], f"RMSE by magnification, {title}")
        _curves(line[1], shown, LABELS, [row.by_label for row in shown])
        line[1].set_xticks(LABELS)
        line[1].set_xlabel("label")
        _style(line[1], f"RMSE by label, {title}")
        line[0].legend(frameon=False, fontsize=8)
    figure.savefig(path)


def _curves(axes: Axes, rows: Sequence[ScoreRow], keys: Sequence[int], values: Sequence[Mapping[int, float]]) -> None:
    names = sorted({row.name for row in rows})
    for row, known in zip(rows, values, strict=True):
        places = [place for place, key in enumerate(keys) if key in known]
        axes.plot(
            places,
            [known[keys[place]] for place in places],
            "--s" if row.published else "-o",
            color=_COLOURS[names.index(row.name) % len(_COLOURS)],
            alpha=0.6 if row.published else 1.0,
            ms=4,
            label=f"{row.name} ({'published' if row.published else 'measured'})",
        )


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.set_ylim(bottom=0.0)
    axes.grid(visible=True, color="#e4e7eb", lw=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
