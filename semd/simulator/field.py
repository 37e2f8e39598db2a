"""Field of view: emission of a sample at one place and magnification, before optics and detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np

from semd.domain.expert_scale import lenient_blur_px
from semd.errors import ConfigError
from semd.simulator.assorted import assorted_emission
from semd.simulator.beads import beads_emission
from semd.simulator.gold import gold_emission
from semd.simulator.grid import HollowPolicy, grid_emission
from semd.simulator.optics import FRAME_HEIGHT_PX, FRAME_WIDTH_PX, pixel_nm
from semd.simulator.texture import Picture, finest_grain_px
from semd.simulator.tinball import tinball_emission

Sample = Literal["tinball", "grid", "assorted", "gold", "beads"]
SAMPLES: tuple[Sample, ...] = get_args(Sample)
MARGIN_PX = 64
"""Border around the frame that blur draws from, in pixels; a multiple of 8 keeps reduced pictures aligned."""


@dataclass(frozen=True, slots=True)
class Field:
    """Field of view.

    Attributes:
        emission: emission of the frame and of `MARGIN_PX` pixels around it, float32 (608, 768), 0..1.
        sample: kind of sample, or `micrograph`.
        magnification: magnification.
        pixel_size_nm: pixel size in nm.
    """

    emission: Picture
    sample: Sample | Literal["micrograph"]
    magnification: float
    pixel_size_nm: float


def crop_margin(picture: Picture) -> Picture:
    """Crop a field-sized picture (608, 768) to the frame (480, 640)."""
    return picture[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]


def make_field(sample: Sample, magnification: float, seed: int, hollow: HollowPolicy = "avoid") -> Field:
    """Generate the field of a sample, a magnification and a seed; equal arguments give equal fields.

    Raises:
        ConfigError: the sample is unknown, or the magnification is not positive.
    """
    if sample not in SAMPLES:
        raise ConfigError(f"unknown sample {sample!r}, known are: {', '.join(SAMPLES)}")
    if not magnification > 0.0:
        raise ConfigError(f"magnification must be positive, not {magnification}")
    rng = np.random.default_rng([seed, round(magnification), SAMPLES.index(sample)])
    shape = (FRAME_HEIGHT_PX + 2 * MARGIN_PX, FRAME_WIDTH_PX + 2 * MARGIN_PX)
    size_nm = pixel_nm(magnification)
    if sample == "tinball":
        emission = tinball_emission(rng, shape, size_nm)
    elif sample == "grid":
        emission = grid_emission(rng, shape, size_nm, hollow)
    elif sample == "gold":
        emission = gold_emission(rng, shape)
    elif sample == "beads":
        emission = beads_emission(rng, shape, finest_grain_px(size_nm))
    else:
        emission = assorted_emission(rng, shape, size_nm)
    # Electrons escape from an interaction volume, which softens the sample itself at high magnification.
    sigma_px = 0.25 * lenient_blur_px(magnification) * rng.uniform(0.3, 0.6)
    emission = np.asarray(cv2.GaussianBlur(emission, (0, 0), max(sigma_px, 0.3)), dtype=np.float32)
    gamma = float(np.exp(rng.uniform(-0.35, 0.35)))
    emission = np.clip(emission, 0.0, 1.25) / np.float32(1.25)
    return Field(np.asarray(emission**gamma, dtype=np.float32), sample, magnification, size_nm)
