"""Assorted surfaces, neither tin balls nor grid: the scoring machine must not learn one look by heart."""

from __future__ import annotations

import cv2
import numpy as np

from semd.simulator.texture import Picture, fractal, scratches


def assorted_emission(rng: np.random.Generator, shape: tuple[int, int], pixel_size_nm: float) -> Picture:
    """Emission of grains, flakes, fibres and cells at every scale, float32 of `shape`, about 0..1."""
    finest_px = float(np.clip(50.0 / pixel_size_nm, 1.3, 4.5))
    canvas = 0.4 + np.float32(rng.uniform(0.02, 0.12)) * fractal(rng, shape, finest_px, 256.0, rng.uniform(0.0, 0.7))
    kind = int(rng.integers(0, 4))
    if kind == 0:
        canvas = _flakes(rng, canvas, finest_px)
    elif kind == 1:
        canvas = _cells(rng, canvas, finest_px)
    elif kind == 2:
        canvas = _fibres(rng, canvas, finest_px)
    else:
        canvas += np.float32(rng.uniform(0.05, 0.15)) * scratches(rng, shape, rng.uniform(0, np.pi), finest_px)
        canvas += np.float32(rng.uniform(0.1, 0.3)) * (
            fractal(rng, shape, finest_px * 2, 128.0, 0.5) > rng.uniform(0, 1.5)
        )
    return np.asarray(canvas, dtype=np.float32)


def _flakes(rng: np.random.Generator, canvas: Picture, finest_px: float) -> Picture:
    for _ in range(int(rng.integers(60, 400))):
        size = finest_px * 1.5 * (1.0 - rng.uniform()) ** -0.7
        size = min(size, 160.0)
        centre = rng.uniform(0.0, 1.0, 2) * np.array([canvas.shape[1], canvas.shape[0]])
        corners = int(rng.integers(3, 9))
        angles = np.sort(rng.uniform(0.0, 2.0 * np.pi, corners))
        radii = size * rng.uniform(0.6, 1.2, corners)
        points = centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
        fixed = np.round(points * 16).astype(np.int32)
        level = float(rng.uniform(0.15, 0.85))
        cv2.fillPoly(canvas, [fixed], level, lineType=cv2.LINE_8, shift=4)
        if rng.uniform() < 0.5:
            cv2.polylines(canvas, [fixed], True, min(level + 0.25, 1.0), 1, cv2.LINE_8, shift=4)
    grain = fractal(rng, (canvas.shape[0], canvas.shape[1]), finest_px, 32.0, 0.2)
    return np.asarray(canvas + np.float32(rng.uniform(0.01, 0.06)) * grain, dtype=np.float32)


def _cells(rng: np.random.Generator, canvas: Picture, finest_px: float) -> Picture:
    shape = (canvas.shape[0], canvas.shape[1])
    for size in (96.0, 32.0, 10.0):
        ridge = np.abs(fractal(rng, shape, max(size / 4.0, finest_px), size, 0.8))
        width = np.float32(rng.uniform(0.04, 0.15))
        canvas += np.float32(rng.uniform(-0.3, 0.35)) * np.exp(-((ridge / width) ** 2))
    return canvas


def _fibres(rng: np.random.Generator, canvas: Picture, finest_px: float) -> Picture:
    for _ in range(int(rng.integers(30, 200))):
        start = rng.uniform(-0.1, 1.1, 2) * np.array([canvas.shape[1], canvas.shape[0]])
        heading = rng.uniform(0.0, 2.0 * np.pi) + np.cumsum(rng.normal(0.0, 0.12, 24))
        steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * rng.uniform(4.0, 30.0)
        fixed = np.round((start + np.cumsum(steps, axis=0)) * 16).astype(np.int32)
        thick = max(round(finest_px * (1.0 - rng.uniform()) ** -0.6), 1)
        thick = min(thick, 24)
        level = float(rng.uniform(0.2, 0.9))
        cv2.polylines(canvas, [fixed], False, level, thick, cv2.LINE_8, shift=4)
        cv2.polylines(canvas, [fixed], False, min(level + 0.15, 1.0), max(thick // 3, 1), cv2.LINE_8, shift=4)
    return canvas
