"""`semd evaluate score`: the papers' tables, the flag rates, class 0 and Fig. 1, measured on the same frames."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semd.datasets.dataset import LabelledFrames
from semd.errors import ConfigError, DatasetError
from semd.evaluation.score.figure_one import Panel, make_panels, orders, save_fig1, score_panels
from semd.evaluation.score.flag_rates import FlagRates, is_ordinary, measure_flag_rates
from semd.evaluation.score.predictions import FrameProgress, Predictions, judge_frames, measure_metrics
from semd.evaluation.score.score_figure import save_table_figure
from semd.evaluation.score.score_table import (
    CSV_HEAD,
    FOOTNOTES,
    NOT_TRAINED,
    PUBLISHED,
    ScoreRow,
    csv_lines,
    make_row,
    table_text,
)
from semd.reporting.saving import save_report
from semd.scoring.scorer import Scorer
from semd.training.score.validation import ScoringReport, report

SPLITS = {"image_test": "split by image, as in the papers", "test": "split by field"}
OURS = "semd"
OURS_AS_MARKS = "semd, as integer marks [3]"
OURS_ANY_EXPOSURE = "semd, far-off exposures as well"
FAR_OFF = ("flat", "wide")
"""Exposure variants absent from the papers' sets; training and control need them, the tables leave them out."""
BASELINE_NETWORKS = {"resnet50": "ResNet50", "no-magnification": "ResNet18 without magnification"}
"""Networks that always have a row in the tables, even where no weights are given."""


@dataclass(frozen=True, slots=True)
class ScoreEvaluation:
    """Result of `evaluate_score`.

    Attributes:
        splits: rows of the tables for each split.
        ours: further figures of the scoring machine for each split, on exposures as in the papers.
        flags: flag rates and class 0.
        panels: frames of Fig. 1.
    """

    splits: dict[str, tuple[ScoreRow, ...]]
    ours: dict[str, ScoringReport]
    flags: FlagRates
    panels: tuple[Panel, ...]

    def as_text(self) -> str:
        """Format the report for a terminal."""
        parts = []
        for split, rows in self.splits.items():
            counted = next(row.frames for row in rows if row.name == OURS)
            parts.append(f"{SPLITS[split]} ({split}, {counted} frames)\n{table_text(rows)}")
        found = orders(self.panels)
        pairs = ", ".join(f"{name} {count}" for name, count in found.items() if name != "pairs")
        fig1 = f"Fig. 1, pairs of frames in the right order of {found['pairs']}: {pairs}"
        return "\n\n".join([*parts, "\n".join(FOOTNOTES), self.flags.as_text(), fig1])

    def as_json(self) -> dict[str, object]:
        """Return all figures, without the images."""
        panels = [
            {name: getattr(panel, name) for name in ("title", "truth", "gradient", "variance", "score")}
            for panel in self.panels
        ]
        return {
            "tables": {split: [asdict(row) for row in rows] for split, rows in self.splits.items()},
            "ours": {split: asdict(figures) for split, figures in self.ours.items()},
            "flags": self.flags.as_json(),
            "fig1": {"panels": panels, "pairs_in_order": orders(self.panels)},
        }

    def save(self, directory: Path) -> None:
        """Write `tables.txt`, `tables.csv`, `score.json`, `tables.png` and `fig1.png`; create the directory.

        Raises:
            StorageError, OSError: the directory cannot be written.
        """
        save_report(directory, texts={"tables.txt": self.as_text()}, values={"score.json": self.as_json()})
        with (directory / "tables.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(CSV_HEAD)
            for split, rows in self.splits.items():
                writer.writerows(csv_lines(split, rows))
        save_table_figure(directory / "tables.png", {SPLITS[split]: rows for split, rows in self.splits.items()})
        save_fig1(directory / "fig1.png", self.panels)


def evaluate_score(
    frames: LabelledFrames,
    scorer: Scorer,
    baselines: Mapping[str, Scorer],
    track: FrameProgress,
    *,
    most_frames: int | None = None,
    faulty: int = 250,
    seed: int = 0,
) -> ScoreEvaluation:
    """Evaluate the scoring machine, baseline networks and sharpness metrics on a dataset.

    Args:
        frames: the dataset.
        scorer: the scoring machine.
        baselines: other networks by name; rows of missing `BASELINE_NETWORKS` read "not trained".
        track: progress display.
        most_frames: frames of each split, evenly spaced; None for all.
        faulty: simulated frames of each fault.
        seed: seed of the faulty frames.

    Raises:
        DatasetError: a split is empty, or no training frame has one of its magnifications.
    """
    rows = {split: _thinned(frames.rows(split), most_frames) for split in SPLITS}
    for split, chosen in rows.items():
        if not len(as_in_papers(frames, chosen)):
            raise DatasetError(f"the dataset has no frames in the split {split!r}: build it with a larger test_share")
    # The splits overlap; each frame is scored once.
    scored = np.unique(np.concatenate(list(rows.values())))
    predictions = _predict_all(frames, scored, scorer, baselines, track)
    ours = predictions[OURS]
    like_papers = {split: as_in_papers(frames, chosen) for split, chosen in rows.items()}
    at = {split: np.searchsorted(scored, chosen) for split, chosen in like_papers.items()}
    ordinary = at["test"][is_ordinary(frames)[like_papers["test"]]]
    return ScoreEvaluation(
        splits={split: _table(frames, chosen, scored, predictions) for split, chosen in rows.items()},
        ours={split: report(frames, chosen, ours.score[at[split]]) for split, chosen in like_papers.items()},
        flags=measure_flag_rates(scorer, faulty, seed, track, ours.at(ordinary)),
        panels=tuple(score_panels(make_panels(), scorer)),
    )


def _predict_all(
    frames: LabelledFrames,
    rows: NDArray[np.int64],
    scorer: Scorer,
    baselines: Mapping[str, Scorer],
    track: FrameProgress,
) -> dict[str, Predictions]:
    """Predict scores of rows by every method, in the order of the tables: metrics, baseline networks, ours last."""
    predictions = measure_metrics(frames, rows, track)
    for key in dict.fromkeys([*BASELINE_NETWORKS, *baselines]):
        if key in baselines:
            name = BASELINE_NETWORKS.get(key, key)
            predictions[name] = judge_frames(baselines[key], frames, rows, track, name)
    predictions[OURS] = judge_frames(scorer, frames, rows, track, OURS)
    return predictions


def _table(
    frames: LabelledFrames,
    rows: NDArray[np.int64],
    scored: NDArray[np.int64],
    predictions: Mapping[str, Predictions],
) -> tuple[ScoreRow, ...]:
    """Rows of one split: published, metrics, baseline networks, ours, ours as marks, ours at any exposure."""
    like_papers = as_in_papers(frames, rows)
    at = np.searchsorted(scored, like_papers)
    untrained = [ScoreRow(name, note=NOT_TRAINED) for name in BASELINE_NETWORKS.values() if name not in predictions]
    measured = [make_row(name, frames, like_papers, each.at(at)) for name, each in predictions.items()]
    marks = make_row(OURS_AS_MARKS, frames, like_papers, predictions[OURS].at(at).as_marks())
    any_exposure = make_row(OURS_ANY_EXPOSURE, frames, rows, predictions[OURS].at(np.searchsorted(scored, rows)))
    return (*PUBLISHED, *measured[:-1], *untrained, measured[-1], marks, any_exposure)


def as_in_papers(frames: LabelledFrames, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Select the rows that resemble the papers' sets: plain, dark and bright fields, and class 0."""
    return rows[~np.isin(frames.variant[rows], FAR_OFF)]


def _thinned(rows: NDArray[np.int64], most: int | None) -> NDArray[np.int64]:
    if most is None or len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def parse_baselines(options: Sequence[str]) -> dict[str, Path]:
    """Parse options of the form `NAME=WEIGHTS` into names and files.

    Raises:
        ConfigError: an option has another form, a name is given twice, or a file is missing.
    """
    found: dict[str, Path] = {}
    for option in options:
        name, equals, path = option.partition("=")
        if not name or not equals or not Path(path).is_file() or name in found:
            raise ConfigError(f"--baseline {option!r}: give NAME=FILE with an existing file, each name once")
        found[name] = Path(path)
    return found
