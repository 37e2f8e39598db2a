"""Hexagonal packing: which ball of a dense layer each pixel belongs to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semd.simulator.texture import Picture

ROW_SPACING = np.sqrt(0.75)
"""Distance of two rows of a hexagonal layer, as a share of its pitch."""


class Balls(NamedTuple):
    """The nearest ball of each pixel.

    Attributes:
        number: stands for the ball, int64 (H, W); equal for all its pixels.
        away: distance from its middle as a share of the pitch, float32 (H, W).
    """

    number: NDArray[np.int64]
    away: Picture


def hexagonal_balls(
    along: Picture, across: Picture, domain: NDArray[np.int64], jitter: NDArray[np.float32] | None = None
) -> Balls:
    """The ball that each pixel belongs to, of a layer that is packed in domains.

    Args:
        along: place along the domain's rows as a share of the pitch, float32 (H, W).
        across: place across them as a share of the rows' distance, float32 (H, W).
        domain: the domain that each pixel lies in, int64 (H, W).
        jitter: by how much balls lie beside their place, shares of the pitch, float32 (N, 2); balls draw from it in
            turn. None leaves all in place.
    """
    away, number = np.full(along.shape, np.inf, np.float32), np.zeros(along.shape, np.int64)
    # Two rows can hold the nearest ball: the one below and the one above.
    for row in (np.floor(across), np.floor(across) + 1.0):
        shifted = along - 0.5 * np.mod(row, 2.0)
        column = np.round(shifted)
        this = (row.astype(np.int64) * 7919 + column.astype(np.int64)) * 17 + domain
        beside, below = shifted - column, (across - row) * np.float32(ROW_SPACING)
        if jitter is not None:
            beside, below = beside + jitter[this % len(jitter), 0], below + jitter[this % len(jitter), 1]
        reach = np.hypot(beside, below)
        number = np.where(reach < away, this, number)
        away = np.minimum(away, reach)
    return Balls(number, away)
