"""Power spectrum of a frame, by ring and sector: blur leaves dark rings in it.

A disc of defocus multiplies the spectrum of a field by its own, whose zeros lie at radii that are inverse to its
diameter, whatever the field: blur is read off the spectrum almost directly, and from all pixels at once. The spectrum
is taken twice: over the whole frame, as coarse blur at high magnification needs, and as the mean of the logarithms over
tiles, in which a few bright edges do not outweigh the rest. Radii are spaced evenly in their logarithm, so that more
blur shifts the picture and does not change it.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor

RADII, SECTORS = 56, 8
"""Rings and sectors of the whole frame's spectrum."""
TILE_RADII, TILE_SECTORS = 32, 4
"""Rings and sectors of the tiles' spectrum."""
LEVELS = 11
"""Numbers about the grey levels: nine quantiles, shares that are black and white."""
SPECTRUM_VALUES = RADII * SECTORS + TILE_RADII * TILE_SECTORS + LEVELS
"""Numbers that `log_spectrum` gives for a frame."""
LEAST_SIDE_PX = 128
"""Side of the tiles: a frame needs as much."""
_LOWEST_PER_PX = 1.0 / 320.0
_TILE_LOWEST_PER_PX = 1.0 / 64.0
_HIGHEST_PER_PX = 0.5
_MOST_TILES = (5, 5)
# About a tenth of a grey level's own rounding: keeps the logarithm of a plain frame finite.
_LEAST_POWER = 2e-6
_QUANTILES = (0.0, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98, 1.0)
_THINNING_PX = 8
_CLOSE = 1e-3


class _Rings(NamedTuple):
    """Assignment of the spectrum of images of one size to rings and sectors.

    Attributes:
        window: float32 (H, W), of unit energy.
        cell: of each frequency, int64 (H * (W // 2 + 1),); one past the last for those outside.
        mean: sums over the cells to means, float32 (cells + 1, cells). A cell without a frequency of its own takes its
            whole ring's, an empty ring the next one's.
    """

    window: Tensor
    cell: Tensor
    mean: Tensor


def log_spectrum(images: Tensor) -> Tensor:
    """The logarithm of frames' power by ring and sector, and quantiles of their grey levels.

    Args:
        images: standardised frames, float32 (B, 1, H, W) with H and W from 128 up.

    Returns:
        float32 (B, SPECTRUM_VALUES): the whole frame's, ring by ring; the tiles'; the levels.
    """
    with torch.autocast(images.device.type, enabled=False):
        pictures = images[:, 0].float()
        height, width = pictures.shape[1:]
        whole = _rings(height, width, RADII, SECTORS, _LOWEST_PER_PX, images.device)
        power = torch.log(_by_cell(_power(pictures, whole.window), whole) + _LEAST_POWER)
        tile = _rings(LEAST_SIDE_PX, LEAST_SIDE_PX, TILE_RADII, TILE_SECTORS, _TILE_LOWEST_PER_PX, images.device)
        logarithms = torch.log(_power(_tiles(pictures), tile.window) + _LEAST_POWER)
        typical = _by_cell(logarithms.view(len(pictures), -1, *logarithms.shape[1:]).mean(dim=1), tile)
        return torch.cat([power, typical, _levels(pictures)], dim=1)


def mirrored(spectra: Tensor) -> Tensor:
    """Log spectrum of the mirrored frames, float32 (B, SPECTRUM_VALUES).

    Either mirror will do: turned upside down, a spectrum is the same.
    """
    return spectra[:, _mirror_order().to(spectra.device)]


@lru_cache(maxsize=1)
def _mirror_order() -> Tensor:
    """Index of each value of the mirrored spectrum: the first sector stays, the others change sides."""
    order: list[int] = []
    for radii, sectors in ((RADII, SECTORS), (TILE_RADII, TILE_SECTORS)):
        start = len(order)
        order += [start + ring * sectors + -sector % sectors for ring in range(radii) for sector in range(sectors)]
    return torch.tensor([*order, *range(len(order), SPECTRUM_VALUES)])


def _power(pictures: Tensor, window: Tensor) -> Tensor:
    """Power of windowed pictures without their mean, (B, H, W) to (B, H, W // 2 + 1)."""
    mean = pictures.flatten(1) @ window.square().flatten()
    waves = torch.fft.rfft2((pictures - mean[:, None, None]) * window)
    power: Tensor = waves.real.square() + waves.imag.square()
    return power


def _by_cell(values: Tensor, rings: _Rings) -> Tensor:
    """Mean of each cell, (B, H, W // 2 + 1) to (B, cells)."""
    sums = values.new_zeros(len(values), rings.mean.shape[0])
    return sums.index_add_(1, rings.cell, values.flatten(1)) @ rings.mean


def _tiles(pictures: Tensor) -> Tensor:
    """Squares spread evenly over pictures, (B, H, W) to (B * tiles, side, side)."""
    starts = []
    for length, most in zip(pictures.shape[1:], _MOST_TILES, strict=True):
        count = min(most, math.ceil(length / LEAST_SIDE_PX))
        starts.append([round(k * (length - LEAST_SIDE_PX) / max(count - 1, 1)) for k in range(count)])
    parts = [pictures[:, y : y + LEAST_SIDE_PX, x : x + LEAST_SIDE_PX] for y in starts[0] for x in starts[1]]
    return torch.stack(parts, dim=1).flatten(0, 1)


def _levels(pictures: Tensor) -> Tensor:
    """Quantiles of the grey levels, and the shares at either end of what the frame shows, (B, H, W) to (B, LEVELS)."""
    ordered = pictures[:, ::_THINNING_PX, ::_THINNING_PX].flatten(1).sort(dim=1).values
    count = ordered.shape[1]
    places = torch.tensor([round(share * (count - 1)) for share in _QUANTILES], device=pictures.device)
    ends = [(ordered < ordered[:, :1] + _CLOSE), (ordered > ordered[:, -1:] - _CLOSE)]
    return torch.cat([ordered[:, places], *(end.float().mean(dim=1, keepdim=True) for end in ends)], dim=1)


@lru_cache(maxsize=8)
def _rings(height: int, width: int, radii: int, sectors: int, lowest: float, device: torch.device) -> _Rings:
    window = torch.hann_window(height, periodic=False)[:, None] * torch.hann_window(width, periodic=False)
    window /= window.square().sum().sqrt()
    down, across = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    radius = torch.hypot(down, across)
    ring = (torch.log(radius / lowest) / math.log(_HIGHEST_PER_PX / lowest) * radii).floor()
    # The first sector lies around the vertical.
    turn = torch.atan2(down, across) / math.pi + 0.5
    sector = (turn * sectors + 0.5).floor().long() % sectors
    inside = (ring >= 0) & (ring < radii)
    cells = radii * sectors
    cell = torch.where(inside, ring.clamp(0, radii - 1).long() * sectors + sector, cells).flatten()
    return _Rings(window.to(device), cell.to(device), _means(cell, radii, sectors).to(device))


def _means(cell: Tensor, radii: int, sectors: int) -> Tensor:
    count = torch.bincount(cell, minlength=radii * sectors + 1)[:-1].view(radii, sectors)
    filled = [ring for ring in range(radii) if count[ring].any()]
    mean = torch.zeros(radii * sectors + 1, radii * sectors)
    for ring in range(radii):
        source = min(filled, key=lambda other: abs(other - ring))
        for sector in range(sectors):
            if count[ring, sector]:
                mean[ring * sectors + sector, ring * sectors + sector] = 1.0 / float(count[ring, sector])
            else:
                whole = slice(source * sectors, (source + 1) * sectors)
                mean[whole, ring * sectors + sector] = 1.0 / float(count[source].sum())
    return mean
