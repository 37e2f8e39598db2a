"""Augmentation of frames: random crops, flips, and changes of light that leave the score alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from semd.scoring.preprocess import MEAN, SPREAD

if TYPE_CHECKING:
    from numpy.typing import NDArray


def random_crops(
    images: NDArray[np.uint8],
    rows: NDArray[np.int64],
    height_px: int,
    width_px: int,
    rng: np.random.Generator,
    tries: int = 1,
) -> NDArray[np.uint8]:
    """Randomly placed and flipped crops of some frames, uint8 (B, height_px, width_px).

    Args:
        images: all frames, uint8 (N, H, W), possibly on disk.
        rows: row numbers of the frames, (B,).
        height_px: height of the crops.
        width_px: width of the crops.
        rng: source of randomness.
        tries: places tried for each crop; the one whose grey levels spread most is taken.
    """
    crops = np.empty((len(rows), height_px, width_px), np.uint8)
    tops = rng.integers(0, images.shape[1] - height_px + 1, (len(rows), tries))
    lefts = rng.integers(0, images.shape[2] - width_px + 1, (len(rows), tries))
    flips = rng.integers(0, 2, (len(rows), 2))
    for k, row in enumerate(rows):
        places = [images[row, y : y + height_px, x : x + width_px] for y, x in zip(tops[k], lefts[k], strict=True)]
        crop = places[0] if tries == 1 else max(places, key=lambda place: float(place[::6, ::6].std()))
        crops[k] = crop[:: 1 - 2 * int(flips[k, 0]), :: 1 - 2 * int(flips[k, 1])]
    return crops


def photometric(
    crops: NDArray[np.uint8], rng: np.random.Generator, share: float = 0.7, noise_share: float = 0.5
) -> NDArray[np.float32]:
    """Standardised crops with random gain, offset, gamma and noise, float32 of the same shape.

    The changes are mild: strong ones would hide what the label speaks of. Noise does hide some of it: it helps a
    young network and misleads one that already reads fine detail.

    Args:
        crops: uint8 (B, H, W).
        rng: source of randomness.
        share: share of the crops that are changed at all.
        noise_share: share of those that get noise as well.
    """
    count = len(crops)
    shape = (count, 1, 1)
    changed = rng.uniform(size=shape) < share
    gamma = np.where(changed, np.exp(rng.uniform(-0.3, 0.3, shape)), 1.0).astype(np.float32)
    gain = np.where(changed, np.exp(rng.uniform(-0.35, 0.3, shape)), 1.0).astype(np.float32)
    offset = np.where(changed, rng.uniform(-0.1, 0.1, shape), 0.0).astype(np.float32)
    added = changed & (rng.uniform(size=shape) < noise_share)
    noise = np.where(added, rng.uniform(0.0, 0.035, shape), 0.0).astype(np.float32)
    # Gamma by table: 256 powers a crop instead of one a pixel.
    table = (np.arange(256, dtype=np.float32) / 255.0)[None, :] ** gamma[:, 0]
    mean = table.mean(axis=1, keepdims=True)
    table = np.clip((table - mean) * gain[:, 0] + mean + offset[:, 0], 0.0, 1.0).astype(np.float32)
    light = np.stack([table[k][crops[k]] for k in range(count)])
    for k in np.flatnonzero(noise[:, 0, 0]):
        light[k] += noise[k] * rng.standard_normal(light.shape[1:], dtype=np.float32)
    np.clip(light, 0.0, 1.0, out=light)
    return np.asarray((light - np.float32(MEAN)) / np.float32(SPREAD), dtype=np.float32)
