"""Hexagonal packing: assignment of pixels to the balls of a dense layer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semd.simulator.texture import Picture

ROW_SPACING = np.sqrt(0.75)
"""Spacing of the rows of a hexagonal layer in units of its pitch."""


class Balls(NamedTuple):
    """Nearest ball of each pixel.

    Attributes:
        number: number of the ball, int64 (H, W); equal for all its pixels.
        distance: distance from its centre in units of the pitch, float32 (H, W).
    """

    number: NDArray[np.int64]
    distance: Picture


def hexagonal_balls(
    along: Picture, across: Picture, domain: NDArray[np.int64], jitter: NDArray[np.float32] | None = None
) -> Balls:
    """Assign each pixel to its nearest ball in a layer packed in domains.

    Args:
        along: coordinate along the rows of the domain in units of the pitch, float32 (H, W).
        across: coordinate across the rows in units of `ROW_SPACING` pitches, float32 (H, W).
        domain: domain of each pixel, int64 (H, W).
        jitter: displacements of balls in units of the pitch, float32 (N, 2); a ball uses the entry of its number modulo
            N. None leaves all balls in place.
    """
    distance, number = np.full(along.shape, np.inf, np.float32), np.zeros(along.shape, np.int64)
    # The nearest ball lies in the row below or in the row above.
    for row in (np.floor(across), np.floor(across) + 1.0):
        shifted = along - 0.5 * np.mod(row, 2.0)
        column = np.round(shifted)
        this = (row.astype(np.int64) * 7919 + column.astype(np.int64)) * 17 + domain
        beside, below = shifted - column, (across - row) * np.float32(ROW_SPACING)
        if jitter is not None:
            beside, below = beside + jitter[this % len(jitter), 0], below + jitter[this % len(jitter), 1]
        candidate = np.hypot(beside, below)
        number = np.where(candidate < distance, this, number)
        distance = np.minimum(distance, candidate)
    return Balls(number, distance)
