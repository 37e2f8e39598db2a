"""Latex beads in a dense monolayer, packed in domains of a few to a few hundred beads.

A defocus disc wider than the pitch reverses the contrast of such a layer (spurious resolution beyond the first zero of
the transfer function): gaps look like beads, and the layer looks sharp. Only edges and domain boundaries show the
defocus.
"""

from __future__ import annotations

import numpy as np

from semd.simulator.packing import ROW_SPACING, hexagonal_balls
from semd.simulator.texture import Picture, cells, distance_past_edge_px, fractal

_PITCH_PX = (4.5, 9.0)
_MAX_DOMAINS = 800.0
_BEADS_DRAWN = 8192


def beads_emission(rng: np.random.Generator, shape: tuple[int, int], finest_px: float) -> Picture:
    """Emission of a layer of touching beads with gaps; half of the layers end at an edge with bare substrate beyond.

    Args:
        rng: source of randomness.
        shape: height and width in pixels.
        finest_px: grain size of the finest texture.

    Returns:
        float32 of `shape`, about 0..1.
    """
    pitch_px = float(np.exp(rng.uniform(*np.log(_PITCH_PX))))
    # From one domain to hundreds.
    domain = cells(rng, shape, int(np.exp(rng.uniform(0.0, np.log(_MAX_DOMAINS))))).astype(np.int64)
    turn = rng.uniform(0.0, np.pi / 3.0, int(domain.max()) + 1).astype(np.float32)[domain]
    y, x = np.indices(shape, dtype=np.float32)
    strain_px = np.float32(pitch_px * rng.uniform(0.0, 0.4))
    x += strain_px * fractal(rng, shape, 6.0 * pitch_px, 256.0, 0.8)
    y += strain_px * fractal(rng, shape, 6.0 * pitch_px, 256.0, 0.8)
    along = (x * np.cos(turn) + y * np.sin(turn)) / np.float32(pitch_px)
    across = (y * np.cos(turn) - x * np.sin(turn)) / np.float32(pitch_px * ROW_SPACING)
    jitter = np.float32(rng.uniform(0.0, 0.1)) * rng.standard_normal((_BEADS_DRAWN, 2), dtype=np.float32)
    number, distance = hexagonal_balls(along, across, domain, jitter)
    chance = rng.random(_BEADS_DRAWN, dtype=np.float32)[number % _BEADS_DRAWN]
    radius = np.float32(0.5) - np.float32(rng.uniform(0.0, 0.12)) * chance
    gaps = fractal(rng, shape, 3.0 * pitch_px, 128.0, 0.6) > np.float32(rng.uniform(1.2, 4.0))
    missing = (chance < np.float32(rng.uniform(0.0, 0.06))) | gaps
    cover = np.where(missing, np.float32(0.0), np.clip((radius - distance) * np.float32(pitch_px) + 0.5, 0.0, 1.0))
    depth = np.clip(distance / radius, 0.0, 1.0)
    limb = np.float32(rng.uniform(-0.3, 0.35)) * depth ** np.float32(rng.uniform(2.0, 8.0))
    grain = fractal(rng, shape, finest_px, 256.0, rng.uniform(0.0, 0.7))
    ground = np.float32(rng.uniform(0.05, 0.3)) + np.float32(rng.uniform(0.002, 0.04)) * grain
    bead = np.float32(rng.uniform(0.45, 0.7)) + limb + np.float32(rng.uniform(0.0, 0.04)) * grain
    layer = ground + cover * (bead - ground)
    return np.asarray(_with_bare_substrate(rng, layer, grain) if rng.uniform() < 0.5 else layer, dtype=np.float32)


def _with_bare_substrate(rng: np.random.Generator, layer: Picture, grain: Picture) -> Picture:
    """Replace one side of the layer by bare substrate; the edge is straight or winding, and may be bright."""
    shape = (layer.shape[0], layer.shape[1])
    past_px = distance_past_edge_px(rng, shape, (0.0, 10.0, 60.0), 32.0)
    beyond_px = past_px - np.float32(rng.uniform(0.0, 280.0))
    bare = np.float32(rng.uniform(0.1, 0.7)) + np.float32(rng.uniform(0.0, 0.03)) * grain
    rim = np.float32(rng.uniform(0.0, 0.4)) * np.exp(-np.abs(beyond_px) / np.float32(rng.uniform(1.0, 6.0)))
    return np.asarray(np.where(beyond_px > 0.0, bare, layer) + rim, dtype=np.float32)
