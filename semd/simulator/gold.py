"""Gold islands on carbon, the usual resolution specimen; held out from the training of all models."""

from __future__ import annotations

import cv2
import numpy as np

from semd.simulator.texture import Picture, fractal

_FINEST_PX = 1.6


def gold_emission(rng: np.random.Generator, shape: tuple[int, int]) -> Picture:
    """Emission of bright, ragged islands with narrow channels of dark carbon between, float32 of `shape`, about 0..1.

    Film thickness is chosen for the magnification, so the islands are about 10 to 60 pixels wide at any magnification.
    """
    island_px = float(np.exp(rng.uniform(np.log(10.0), np.log(60.0))))
    # Islands are the regions where a smooth random height exceeds a level.
    height = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), 0.28 * island_px)
    height = height / height.std()
    ragged = np.float32(rng.uniform(0.05, 0.2)) * fractal(rng, shape, _FINEST_PX, island_px, 0.2)
    above = height + ragged - np.float32(rng.uniform(-0.5, 0.2))
    # Division by the typical slope converts heights to distances from the rim in pixels.
    rim_px = above / np.float32(1.0 / (0.28 * island_px))
    cover = np.clip(rim_px + 0.5, 0.0, 1.0)
    grain = fractal(rng, shape, _FINEST_PX, 0.5 * island_px, 0.1)
    gold = np.float32(rng.uniform(0.5, 0.7)) + np.float32(rng.uniform(0.02, 0.06)) * grain
    gold += np.float32(rng.uniform(0.1, 0.3)) * np.exp(-np.abs(rim_px) / np.float32(rng.uniform(1.5, 4.0)))
    carbon = np.float32(rng.uniform(0.08, 0.2)) + np.float32(rng.uniform(0.002, 0.01)) * grain
    return np.asarray(carbon + cover * (gold - carbon), dtype=np.float32)
