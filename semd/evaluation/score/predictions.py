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

# A monotone map over one axis is settled by far fewer frames than there are.
_FRAMES_FOR_MAP = 600
# A mark is at least k where the score rounds to k or more, so the mean mark is the sum of those probabilities.
_BETWEEN_MARKS = np.arange(0.5, 10.0)
_LEAST_SIGMA = 1e-6

Step = TypeVar("Step")


class Track(Protocol):
    """Shows progress while it hands steps through."""

    def __call__(self, steps: Sequence[Step], description: str, /) -> Iterable[Step]:
        """The steps."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of one method for some rows of a dataset.

    Attributes:
        score: float64 (R,).
        sigma: standard deviation of the score, float64 (R,); None where the method does not know one.
        flagged: True where the frame is doubted, bool (R,); None likewise.
    """

    score: NDArray[np.float64]
    sigma: NDArray[np.float64] | None = None
    flagged: NDArray[np.bool_] | None = None

    def at(self, places: NDArray[np.int64]) -> Predictions:
        """The same for some of the rows."""
        return Predictions(
            self.score[places],
            None if self.sigma is None else self.sigma[places],
            None if self.flagged is None else self.flagged[places],
        )

    def as_marks(self) -> Predictions:
        """The same, with the mean of the integer marks 0..10 that an expert may write instead of the score.

        A network that learns from integer marks, as the papers', comes to say this mean by itself. Where a score is
        surely 6.4 the mark is 6; where it may as well be 6.6 the mean lies between.

        Raises:
            ValueError: there is no standard deviation to tell how sure a score is.
        """
        if self.sigma is None:
            raise ValueError("marks need the scores' standard deviations")
        above = (self.score[:, None] - _BETWEEN_MARKS) / np.maximum(self.sigma, _LEAST_SIGMA)[:, None]
        return replace(self, score=torch.special.ndtr(torch.from_numpy(above)).sum(dim=1).numpy())


def judge_frames(
    scorer: Scorer, frames: LabelledFrames, rows: NDArray[np.int64], track: Track, name: str
) -> Predictions:
    """Let a scoring machine judge rows, one by one as in the loop."""
    judged = [
        scorer.judge(np.asarray(frames.images[row]), float(frames.magnification[row]))
        for row in track([int(row) for row in rows], name)
    ]
    return Predictions(
        np.array([each.score for each in judged]),
        np.array([each.sigma for each in judged]),
        np.array([bool(each.flags) for each in judged]),
    )


def measure_metrics(frames: LabelledFrames, rows: NDArray[np.int64], track: Track) -> dict[str, Predictions]:
    """Scores that the sharpness metrics give to rows, mapped magnification by magnification; see `METRICS`.

    Raises:
        DatasetError: the training frames lack a magnification of the rows.
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
    """Training rows at the magnifications of `rows`, evenly spread."""
    train = frames.rows("train")
    parts = []
    for magnification in np.unique(frames.magnification[rows]):
        alike = train[(frames.magnification[train] == magnification) & ~frames.is_other_surface[train]]
        if not len(alike):
            raise DatasetError(
                f"there is no training frame at x{magnification:g}: no metric can be mapped to a score there"
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
    """Scores of rows from their metric, through one map per magnification."""
    score = np.empty(len(rows))
    for magnification in np.unique(frames.magnification[rows]):
        fitted, asked = frames.magnification[train] == magnification, frames.magnification[rows] == magnification
        learnt = fit_monotone(at_train[fitted], frames.label[train[fitted]].astype(np.float64))
        score[asked] = learnt(at_rows[asked])
    return score
