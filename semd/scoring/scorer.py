"""The scoring machine as the loop uses it: one frame in, one score out (step (b) of Fig. 5)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from semd.errors import ModelError
from semd.scoring.network import ScoringNetwork, lay_out_channels_last, magnification_input
from semd.scoring.preprocess import CROP_HEIGHT_PX, CROP_WIDTH_PX, centre_crop, standardise
from semd.scoring.weights import load_weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BEST_SCORE = 10.0


class Scorer:
    """Scores frames with a trained network; keeps no memory of earlier frames."""

    def __init__(self, network: ScoringNetwork) -> None:
        """Take over a network, switched to inference."""
        self._network = lay_out_channels_last(network.eval())

    @classmethod
    def load(cls, weights: bytes, threads: int = 1) -> Scorer:
        """Make a scorer from the bytes of a safetensors file, verified by the caller.

        Args:
            weights: contents of the file.
            threads: threads torch may use in this process; more than one only on cores nobody else uses.

        Raises:
            ModelError: the bytes are not this network's weights, or `threads` is below 1.
        """
        if threads < 1:
            raise ModelError(f"threads must be at least 1, not {threads}")
        torch.set_num_threads(threads)
        # Weights follow at once: what the initialisation draws would be thrown away.
        network = ScoringNetwork()
        load_weights(network, weights)
        return cls(network)

    def warm_up(self) -> None:
        """Score an empty frame, so that the first real one does not pay for torch's own preparations."""
        empty = torch.zeros((1, 1, CROP_HEIGHT_PX, CROP_WIDTH_PX)).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            self._network(empty, torch.zeros(1))

    def score(self, image: NDArray[np.uint8], magnification: float) -> float:
        """Score one frame, 0..10.

        Args:
            image: grey frame, uint8 (480, 640) or any size from 240x320 up; its centre is looked at.
            magnification: magnification.

        Raises:
            ImageSizeError: the frame is too small, or not grey.
            ModelError: the network's answer is not a number.
        """
        # The fresh array belongs to nobody else, so torch may share its memory.
        grey = torch.from_numpy(standardise(centre_crop(image)))[None, None]
        with torch.inference_mode():
            images = grey.contiguous(memory_format=torch.channels_last)
            answer = float(self._network(images, torch.tensor([magnification_input(magnification)])))
        if not math.isfinite(answer):
            raise ModelError(f"the scoring network answered {answer} for a frame at x{magnification:g}")
        return min(max(answer, 0.0), BEST_SCORE)
