"""Predictions of metrics and networks for the frames of a dataset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from semd.datasets.dataset import LabelledFrames
from semd.errors import DatasetError
from semd.evaluation.baselines.sharpness_metrics import METRICS, fit_monotone
from semd.scoring.scorer import Scorer

# Enough for a monotone map of one variable; chosen, to limit the time spent on metrics.
_FRAMES_FOR_MAP = 600
# Boundaries between neighbouring marks. The expected mark is the sum over them of P(score > boundary).
_BETWEEN_MARKS = np.arange(0.5, 10.0)
_MIN_SIGMA = 1e-6

Step = TypeVar("Step")


class FrameProgress(Protocol):
    """Progress display that passes a sequence of steps through."""

    def __call__(self, steps: Sequence[Step], description: str, /) -> Iterable[Step]:
        """Yield the steps and show the progress under a description."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of one method for some rows of a dataset.

    Attributes:
        score: predicted scores, float64 (R,).
        sigma: standard deviations of the scores, float64 (R,); None if the method predicts none.
        flagged: True where the frame has a quality flag, bool (R,); None if the method sets none.
    """

    score: NDArray[np.float64]
    sigma: NDArray[np.float64] | None = None
    flagged: NDArray[np.bool_] | None = None

    def at(self, places: NDArray[np.int64]) -> Predictions:
        """Return the predictions at some positions, int64 (K,)."""
        return Predictions(
            self.score[places],
            None if self.sigma is None else self.sigma[places],
            None if self.flagged is None else self.flagged[places],
        )

    def as_marks(self) -> Predictions:
        """Return the predictions with each score replaced by its expected integer mark 0..10.

        A network trained on integer marks, as the papers' is, learns this expectation. A certain score of 6.4 has the
        mark 6; the less certain the score, the closer the expectation is to the score itself.

        Raises:
            ValueError: the predictions have no standard deviations.
        """
        if self.sigma is None:
            raise ValueError("expected marks need the standard deviations of the scores")
        above = (self.score[:, None] - _BETWEEN_MARKS) / np.maximum(self.sigma, _MIN_SIGMA)[:, None]
        return replace(self, score=torch.special.ndtr(torch.from_numpy(above)).sum(dim=1).numpy())


def judge_frames(
    scorer: Scorer, frames: LabelledFrames, rows: NDArray[np.int64], track: FrameProgress, name: str
) -> Predictions:
    """Score rows of a dataset frame by frame, as the daemon does; `rows` is int64 (R,)."""
    judged = [
        scorer.judge(np.asarray(frames.images[row]), float(frames.magnification[row]))
        for row in track([int(row) for row in rows], name)
    ]
    return Predictions(
        np.array([each.score for each in judged]),
        np.array([each.sigma for each in judged]),
        np.array([bool(each.flags) for each in judged]),
    )


def measure_metrics(frames: LabelledFrames, rows: NDArray[np.int64], track: FrameProgress) -> dict[str, Predictions]:
    """Predict scores from the sharpness metrics of `METRICS`, by one monotone map for each magnification.

    The maps are fitted on training frames. `rows` is int64 (R,).

    Raises:
        DatasetError: no training frame has the magnification of one of the rows.
    """
    train = _rows_for_maps(frames, rows)
    wanted = np.unique(np.concatenate([train, rows]))
    values = {name: np.empty(len(wanted)) for name in METRICS}
    for place, row in enumerate(track([int(row) for row in wanted], "metrics")):
        image = np.asarray(frames.images[row])
        for name, metric in METRICS.items():
            values[name][place] = metric(image)
    at_train, at_rows = np.searchsorted(wanted, train), np.searchsorted(wanted, rows)
    return {name: Predictions(_mapped(frames, train, rows, of[at_train], of[at_rows])) for name, of in values.items()}


def _rows_for_maps(frames: LabelledFrames, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Select training rows at the magnifications of `rows`, evenly spaced, at most `_FRAMES_FOR_MAP` for each."""
    train = frames.rows("train")
    parts = []
    for magnification in np.unique(frames.magnification[rows]):
        alike = train[(frames.magnification[train] == magnification) & ~frames.is_other_surface[train]]
        if not len(alike):
            raise DatasetError(
                f"no training frame at x{magnification:g}: metrics cannot be mapped to scores at this magnification"
            )
        parts.append(alike[np.linspace(0, len(alike) - 1, min(len(alike), _FRAMES_FOR_MAP)).astype(np.int64)])
    return np.concatenate(parts)


def _mapped(
    frames: LabelledFrames,
    train: NDArray[np.int64],
    rows: NDArray[np.int64],
    at_train: NDArray[np.float64],
    at_rows: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Map the metric of rows to scores, by one monotone map for each magnification."""
    score = np.empty(len(rows))
    for magnification in np.unique(frames.magnification[rows]):
        fitted, asked = frames.magnification[train] == magnification, frames.magnification[rows] == magnification
        learnt = fit_monotone(at_train[fitted], frames.label[train[fitted]].astype(np.float64))
        score[asked] = learnt(at_rows[asked])
    return score
