"""Latex beads dried into one dense layer: fine, regular, and packed in domains of a few or a few hundred beads.

A disc of defocus wider than their pitch turns such a layer inside out beyond its first zero: gaps look like beads, and
the layer looks sharp. Only what lies beside it tells, edges and the grain of its domains.
"""

from __future__ import annotations

import numpy as np

from semd.simulator.packing import ROW_SPACING, hexagonal_balls
from semd.simulator.texture import Picture, cells, fractal, past_an_edge_px

_PITCH_PX = (4.5, 9.0)
_MOST_DOMAINS = 800.0
_DRAWN = 8192


def beads_emission(rng: np.random.Generator, shape: tuple[int, int], finest_px: float) -> Picture:
    """Emission of a layer of touching beads, with gaps, on a plain ground that may be bare beyond its edge.

    Args:
        rng: source of randomness.
        shape: height and width in pixels.
        finest_px: grain size of the finest texture.

    Returns:
        float32 of `shape`, about 0..1.
    """
    pitch_px = float(np.exp(rng.uniform(*np.log(_PITCH_PX))))
    # From one domain to hundreds.
    domain = cells(rng, shape, int(np.exp(rng.uniform(0.0, np.log(_MOST_DOMAINS))))).astype(np.int64)
    turn = rng.uniform(0.0, np.pi / 3.0, int(domain.max()) + 1).astype(np.float32)[domain]
    y, x = np.indices(shape, dtype=np.float32)
    strain_px = np.float32(pitch_px * rng.uniform(0.0, 0.4))
    x += strain_px * fractal(rng, shape, 6.0 * pitch_px, 256.0, 0.8)
    y += strain_px * fractal(rng, shape, 6.0 * pitch_px, 256.0, 0.8)
    along = (x * np.cos(turn) + y * np.sin(turn)) / np.float32(pitch_px)
    across = (y * np.cos(turn) - x * np.sin(turn)) / np.float32(pitch_px * ROW_SPACING)
    jitter = np.float32(rng.uniform(0.0, 0.1)) * rng.standard_normal((_DRAWN, 2), dtype=np.float32)
    number, away = hexagonal_balls(along, across, domain, jitter)
    chance = rng.random(_DRAWN, dtype=np.float32)[number % _DRAWN]
    radius = np.float32(0.5) - np.float32(rng.uniform(0.0, 0.12)) * chance
    gaps = fractal(rng, shape, 3.0 * pitch_px, 128.0, 0.6) > np.float32(rng.uniform(1.2, 4.0))
    missing = (chance < np.float32(rng.uniform(0.0, 0.06))) | gaps
    cover = np.where(missing, np.float32(0.0), np.clip((radius - away) * np.float32(pitch_px) + 0.5, 0.0, 1.0))
    depth = np.clip(away / radius, 0.0, 1.0)
    limb = np.float32(rng.uniform(-0.3, 0.35)) * depth ** np.float32(rng.uniform(2.0, 8.0))
    grain = fractal(rng, shape, finest_px, 256.0, rng.uniform(0.0, 0.7))
    ground = np.float32(rng.uniform(0.05, 0.3)) + np.float32(rng.uniform(0.002, 0.04)) * grain
    bead = np.float32(rng.uniform(0.45, 0.7)) + limb + np.float32(rng.uniform(0.0, 0.04)) * grain
    layer = ground + cover * (bead - ground)
    return np.asarray(_laid_bare(rng, layer, grain) if rng.uniform() < 0.5 else layer, dtype=np.float32)


def _laid_bare(rng: np.random.Generator, layer: Picture, grain: Picture) -> Picture:
    """The layer ends at a straight or winding edge, which may be bright; beyond it lies what it was dried on."""
    shape = (layer.shape[0], layer.shape[1])
    past_px = past_an_edge_px(rng, shape, (0.0, 10.0, 60.0), 32.0)
    beyond_px = past_px - np.float32(rng.uniform(0.0, 280.0))
    bare = np.float32(rng.uniform(0.1, 0.7)) + np.float32(rng.uniform(0.0, 0.03)) * grain
    rim = np.float32(rng.uniform(0.0, 0.4)) * np.exp(-np.abs(beyond_px) / np.float32(rng.uniform(1.0, 6.0)))
    return np.asarray(np.where(beyond_px > 0.0, bare, layer) + rim, dtype=np.float32)
