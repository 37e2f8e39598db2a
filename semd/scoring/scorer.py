"""Scoring of single frames by a trained network (step (b) of Fig. 5)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch

from semd.domain.frame_score import FrameScore, QualityFlag
from semd.errors import ModelError
from semd.scoring.faults import find_faults, stripes
from semd.scoring.network import FeatureEngine, ScoringNetwork, lay_out_channels_last
from semd.scoring.preprocess import centre_crop, standardise
from semd.scoring.stored import network_from_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BEST_SCORE = 10.0
# Labels begin at 1 where anything can be recognised.
_LEAST_SEEN = 1.0
_NOTHING_SEEN = 0.5


class Scorer:
    """Scores frames with a trained network; keeps no memory of earlier frames."""

    def __init__(self, network: ScoringNetwork, engine: FeatureEngine | None = None) -> None:
        """Take over a network, switched to inference, and what runs its convolutions; torch by default."""
        self._network = lay_out_channels_last(network.eval())
        self._engine: FeatureEngine = cast("FeatureEngine", self._network) if engine is None else engine

    @classmethod
    def load(cls, weights: bytes, threads: int = 1) -> Scorer:
        """Make a scorer from the bytes of a safetensors file, verified by the caller.

        Args:
            weights: contents of the file.
            threads: threads torch may use in this process; more than one only on cores nobody else uses.

        Raises:
            ModelError: the bytes are not a scoring network's, or `threads` is below 1.
        """
        if threads < 1:
            raise ModelError(f"threads must be at least 1, not {threads}")
        torch.set_num_threads(threads)
        return cls(network_from_bytes(weights))

    @property
    def engine(self) -> FeatureEngine:
        """Engine of the convolutions."""
        return self._engine

    def warm_up(self) -> None:
        """Score an empty frame, so that the first real one does not pay for torch's own preparations."""
        form = self._network.architecture
        empty = torch.zeros((1, 1, form.height_px, form.width_px)).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            self._network.score_features(self._network.extract_features(empty, self._engine), torch.ones(1))

    def score(self, image: NDArray[np.uint8], magnification: float) -> float:
        """The score alone, 0..10, see `judge`."""
        return self.judge(image, magnification).score

    def judge(self, image: NDArray[np.uint8], magnification: float) -> FrameScore:
        """Score one frame, with its uncertainty and quality flags.

        Args:
            image: grey frame, uint8 (480, 640) or any size from 240x320 up; its centre is used.
            magnification: magnification in x.

        Raises:
            ImageSizeError: the frame is too small, or not grey.
            ModelError: the network's answer is not a number.
        """
        form = self._network.architecture
        middle = centre_crop(image, form.height_px, form.width_px)
        # The fresh array belongs to nobody else, so torch may share its memory.
        grey = torch.from_numpy(standardise(middle))[None, None]
        with torch.inference_mode():
            features = self._network.extract_features(grey.contiguous(memory_format=torch.channels_last), self._engine)
            answer = self._network.score_features(features, torch.tensor([magnification]))
            score = float(answer.scores.mean())
            sigma = float(self._network.certainty.sigma(*answer))
            out_of_distribution = bool(self._network.is_out_of_distribution(features))
        if not math.isfinite(score) or not math.isfinite(sigma):
            raise ModelError(f"the scoring network answered {score} +- {sigma} for a frame at x{magnification:g}")
        faults = find_faults(middle)
        # The frame counts as blank when two of three criteria hold: little structure, features out of distribution, a
        # score below 1. Where most of the frame is clipped, the low score alone is enough.
        is_below = score < _LEAST_SEEN
        is_lost = QualityFlag.SATURATED in faults.flags and is_below
        if faults.is_empty or is_lost or (QualityFlag.BLANK in faults.flags) + out_of_distribution + is_below >= 2:
            score = 0.0
        flags = set(faults.flags)
        if score < _NOTHING_SEEN:
            flags.add(QualityFlag.BLANK)
        if out_of_distribution:
            flags.add(QualityFlag.UNFAMILIAR)
        drawn = stripes(middle) if QualityFlag.STRIPED in flags else ()
        return FrameScore(min(max(score, 0.0), BEST_SCORE), sigma, tuple(sorted(flags)), drawn)
