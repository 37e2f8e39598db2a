"""`semd evaluate score`: the papers' tables, the 0 class, the flags and Fig. 1, in one run on the same frames."""

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
from semd.evaluation.score.flag_rates import Doubts, is_ordinary, measure_doubts
from semd.evaluation.score.predictions import Predictions, Track, judge_frames, measure_metrics
from semd.evaluation.score.score_figure import save_table_figure
from semd.evaluation.score.score_table import (
    CSV_HEAD,
    FOOTNOTES,
    NOT_TRAINED,
    PUBLISHED,
    Row,
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
"""Exposures that the papers' sets lack: training and control need them, the tables compare without them."""
RIVALS = {"resnet50": "ResNet50", "no-magnification": "ResNet18 without magnification"}
"""Networks that the tables have a row for whether or not their weights are given."""


@dataclass(frozen=True, slots=True)
class ScoreEvaluation:
    """All that was measured.

    Attributes:
        splits: rows of the tables for each split.
        ours: more figures of the shipped scoring machine on the papers' kinds of frames of each split.
        flags: the 0 class and the flags.
        panels: Fig. 1.
    """

    splits: dict[str, tuple[Row, ...]]
    ours: dict[str, ScoringReport]
    flags: Doubts
    panels: tuple[Panel, ...]

    def as_text(self) -> str:
        """Everything for a terminal."""
        parts = []
        for split, rows in self.splits.items():
            counted = next(row.frames for row in rows if row.name == OURS)
            parts.append(f"{SPLITS[split]} ({split}, {counted} frames)\n{table_text(rows)}")
        found = orders(self.panels)
        pairs = ", ".join(f"{name} {count}" for name, count in found.items() if name != "pairs")
        fig1 = f"Fig. 1, pairs of frames in the right order of {found['pairs']}: {pairs}"
        return "\n\n".join([*parts, "\n".join(FOOTNOTES), self.flags.as_text(), fig1])

    def as_json(self) -> dict[str, object]:
        """Everything but the pictures."""
        panels = [
            {name: getattr(panel, name) for name in ("title", "truth", "gradient", "variance", "score")}
            for panel in self.panels
        ]
        return {
            "tables": {split: [asdict(row) for row in rows] for split, rows in self.splits.items()},
            "ours": {split: asdict(figures) for split, figures in self.ours.items()},
            "flags": asdict(self.flags),
            "fig1": {"panels": panels, "pairs_in_order": orders(self.panels)},
        }

    def save(self, directory: Path) -> None:
        """Write `tables.txt`, `tables.csv`, `score.json`, `tables.png` and `fig1.png`; the directory is created.

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
    rivals: Mapping[str, Scorer],
    track: Track,
    *,
    most_frames: int | None = None,
    faulty: int = 250,
    seed: int = 0,
) -> ScoreEvaluation:
    """Measure everything.

    Args:
        frames: the dataset.
        scorer: the scoring machine.
        rivals: other networks by name; those of `RIVALS` that are missing are said to be not trained.
        track: shows progress.
        most_frames: frames of each split, evenly spread; None for all.
        faulty: frames of each fault.
        seed: of the faulty frames.

    Raises:
        DatasetError: a split is empty, or its magnifications are not among the training frames.
    """
    rows = {split: _thinned(frames.rows(split), most_frames) for split in SPLITS}
    for split, chosen in rows.items():
        if not len(as_in_papers(frames, chosen)):
            raise DatasetError(f"the dataset has no frames in the split {split!r}: build it with a larger test_share")
    # The splits overlap; a frame is looked at once.
    asked = np.unique(np.concatenate(list(rows.values())))
    said = measure_metrics(frames, asked, track)
    for key in dict.fromkeys([*RIVALS, *rivals]):
        if key in rivals:
            name = RIVALS.get(key, key)
            said[name] = judge_frames(rivals[key], frames, asked, track, name)
    said[OURS] = judge_frames(scorer, frames, asked, track, OURS)
    tables = {split: _table(frames, chosen, asked, said) for split, chosen in rows.items()}
    alike = {split: as_in_papers(frames, chosen) for split, chosen in rows.items()}
    at = {split: np.searchsorted(asked, chosen) for split, chosen in alike.items()}
    ordinary = at["test"][is_ordinary(frames)[alike["test"]]]
    return ScoreEvaluation(
        splits=tables,
        ours={split: report(frames, chosen, said[OURS].score[at[split]]) for split, chosen in alike.items()},
        flags=measure_doubts(scorer, faulty, seed, track, said[OURS].at(ordinary)),
        panels=tuple(score_panels(make_panels(), scorer)),
    )


def _table(
    frames: LabelledFrames,
    rows: NDArray[np.int64],
    asked: NDArray[np.int64],
    said: Mapping[str, Predictions],
) -> tuple[Row, ...]:
    """Rows of one split: the papers', the metrics, the rivals, ours, ours as marks, and ours at any exposure."""
    like_papers = as_in_papers(frames, rows)
    at = np.searchsorted(asked, like_papers)
    untrained = [Row(name, note=NOT_TRAINED) for name in RIVALS.values() if name not in said]
    measured = [make_row(name, frames, like_papers, found.at(at)) for name, found in said.items()]
    marks = make_row(OURS_AS_MARKS, frames, like_papers, said[OURS].at(at).as_marks())
    everything = make_row(OURS_ANY_EXPOSURE, frames, rows, said[OURS].at(np.searchsorted(asked, rows)))
    return (*PUBLISHED, *measured[:-1], *untrained, measured[-1], marks, everything)


def as_in_papers(frames: LabelledFrames, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of some rows that show what the papers' sets hold: plain, dark and bright fields, and the 0 class."""
    return rows[~np.isin(frames.variant[rows], FAR_OFF)]


def _thinned(rows: NDArray[np.int64], most: int | None) -> NDArray[np.int64]:
    if most is None or len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def parse_rivals(options: Sequence[str]) -> dict[str, Path]:
    """`NAME=WEIGHTS` options as names and files.

    Raises:
        ConfigError: an option is not of that form, a name comes twice, or a file is missing.
    """
    found: dict[str, Path] = {}
    for option in options:
        name, equals, path = option.partition("=")
        if not name or not equals or not Path(path).is_file() or name in found:
            raise ConfigError(f"--rival {option!r}: give NAME=FILE with an existing file, each name once")
        found[name] = Path(path)
    return found
