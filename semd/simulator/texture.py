"""Random textures: grain and scratches that give a field detail at every magnification."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]


def finest_grain_px(pixel_size_nm: float) -> float:
    """Size in pixels of the finest grain of a surface: 50 nm, limited to 1.3..4.5 pixels."""
    return float(np.clip(50.0 / pixel_size_nm, 1.3, 4.5))


def fractal(
    rng: np.random.Generator,
    shape: tuple[int, int],
    finest_px: float,
    coarsest_px: float,
    roughness: float = 0.3,
) -> Picture:
    """Self-similar noise, a sum of octaves, float32 of `shape`, mean 0, standard deviation 1.

    Args:
        rng: source of randomness.
        shape: height and width in pixels.
        finest_px: grain size of the finest octave.
        coarsest_px: grain size of the coarsest octave.
        roughness: amplitude of an octave is `size ** roughness`; 0 gives every octave the same.
    """
    height, width = shape
    total = np.zeros(shape, np.float32)
    size_px = float(coarsest_px)
    while size_px >= finest_px * 0.999:
        rows, cols = int(height / size_px) + 4, int(width / size_px) + 4
        coarse = rng.standard_normal((rows, cols), dtype=np.float32)
        if size_px > 1.0:
            # Without a sub-cell offset the lattices of the octaves coincide and become visible.
            dy, dx = rng.uniform(0.0, 1.0, 2)
            matrix = np.array([[1 / size_px, 0.0, dx + 1.0], [0.0, 1 / size_px, dy + 1.0]])
            flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
            grown = cv2.warpAffine(coarse, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT)
            coarse = np.asarray(grown, dtype=np.float32)
        total += coarse[:height, :width] * np.float32((size_px / coarsest_px) ** roughness)
        size_px /= 2.0
    total -= total.mean()
    return np.asarray(total / (total.std() + 1e-6), dtype=np.float32)


def distance_past_edge_px(
    rng: np.random.Generator, shape: tuple[int, int], windings_px: tuple[float, ...], finest_px: float
) -> Picture:
    """Signed distance in pixels past an edge through the middle in a random direction, float32 of `shape`.

    Args:
        rng: source of randomness.
        shape: height and width in pixels.
        windings_px: candidates for the standard deviation of the edge from a straight line; one is drawn.
        finest_px: size of the finest windings.
    """
    y, x = np.indices(shape, dtype=np.float32)
    towards = rng.uniform(0.0, 2.0 * np.pi)
    winding_px = np.float32(rng.choice(windings_px))
    across_px = (x - shape[1] / 2) * np.float32(np.cos(towards)) + (y - shape[0] / 2) * np.float32(np.sin(towards))
    return np.asarray(across_px + winding_px * fractal(rng, shape, finest_px, 256.0, 0.8), dtype=np.float32)


def cells(rng: np.random.Generator, shape: tuple[int, int], count: int) -> NDArray[np.int32]:
    """Voronoi cells of `count` random points: cell number of each pixel from 1, int32 of `shape`."""
    free = np.ones(shape, np.uint8)
    free[rng.integers(0, shape[0], count), rng.integers(0, shape[1], count)] = 0
    _, nearest = cv2.distanceTransformWithLabels(free, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL)
    return np.asarray(nearest, dtype=np.int32)


def scratches(rng: np.random.Generator, shape: tuple[int, int], angle_rad: float, width_px: float) -> Picture:
    """Parallel grinding marks along `angle_rad`, float32 of `shape`, mean 0, standard deviation 1."""
    side = int(np.hypot(*shape)) + 8
    stretched = fractal(rng, (side, max(side // 24, 8)), width_px, max(width_px * 8.0, 8.0), 0.2)
    lines = cv2.resize(stretched, (side, side), interpolation=cv2.INTER_CUBIC)
    centre = (side / 2.0, side / 2.0)
    matrix = cv2.getRotationMatrix2D(centre, float(np.degrees(angle_rad)), 1.0)
    turned = cv2.warpAffine(lines, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    top, left = (side - shape[0]) // 2, (side - shape[1]) // 2
    return np.ascontiguousarray(turned[top : top + shape[0], left : left + shape[1]], dtype=np.float32)
