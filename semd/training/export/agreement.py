"""Agreement of an exported model's scores with those of its network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from semd.scoring.preprocess import centre_crop, standardise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from semd.scoring.network import FeatureEngine, ScoringNetwork

    Track = Callable[[Sequence[int], str], Iterable[int]]


class FrameSubset(NamedTuple):
    """Frames chosen from a larger number.

    Attributes:
        images: all frames, uint8 (N, H, W), as a rule left on disk.
        magnification: magnification of each, float32 (N,).
        rows: numbers of the chosen ones, int64 (n,).
    """

    images: NDArray[np.uint8]
    magnification: NDArray[np.float32]
    rows: NDArray[np.int64]

    def standardised(self, row: int, network: ScoringNetwork) -> NDArray[np.float32]:
        """Network input of a frame, float32 (1, 1, H, W)."""
        form = network.architecture
        return standardise(centre_crop(self.images[row], form.height_px, form.width_px))[None, None]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Differences from eager torch.

    Attributes:
        frames: number of frames compared.
        largest: largest difference of a score in points; the score is the mean of the replicas, not clamped.
        rms: root mean square of the differences in points.
        largest_sigma: largest difference of a score's standard deviation in points.
        flags_changed: frames that are unfamiliar to one and not to the other.
    """

    frames: int
    largest: float
    rms: float
    largest_sigma: float
    flags_changed: int


def extract_all(
    network: ScoringNetwork, engine: FeatureEngine, frames: FrameSubset, track: Track, doing: str
) -> Tensor:
    """Features of frames, one at a time as in the loop, float32 (n, features)."""
    with torch.inference_mode():
        rows = track([int(row) for row in frames.rows], doing)
        parts = [network.extract_features(torch.from_numpy(frames.standardised(row, network)), engine) for row in rows]
    return torch.cat(parts).clone()


@torch.no_grad()
def compare(network: ScoringNetwork, frames: FrameSubset, eager: Tensor, exported: Tensor) -> Agreement:
    """Compare the scores from two extractions of the same frames, float32 (n, features) each."""
    magnification = torch.from_numpy(frames.magnification[frames.rows])
    first, second = network.score_features(eager, magnification), network.score_features(exported, magnification)
    certainty = network.certainty
    scores = first.scores.mean(dim=1) - second.scores.mean(dim=1)
    sigma = certainty.sigma(*first) - certainty.sigma(*second)
    changed = network.is_out_of_distribution(eager) != network.is_out_of_distribution(exported)
    return Agreement(
        frames=len(frames.rows),
        largest=float(scores.abs().max()),
        rms=float(scores.square().mean().sqrt()),
        largest_sigma=float(sigma.abs().max()),
        flags_changed=int(changed.sum()),
    )
