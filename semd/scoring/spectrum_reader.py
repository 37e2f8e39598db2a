"""The part of the scoring network that reads a frame's power spectrum."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from semd.scoring.spectrum import LEVELS, RADII, SECTORS, SPECTRUM_VALUES, TILE_RADII, TILE_SECTORS

if TYPE_CHECKING:
    from torch import Tensor

SPECTRUM_FEATURES = 64
"""Number of features for the heads."""
_CHANNELS = 64
_HIDDEN = 256
_WHOLE, _TILES = RADII * SECTORS, TILE_RADII * TILE_SECTORS
_LEAST_SPREAD = 1e-3


class SpectrumReader(nn.Module):
    """Spectra, float32 (B, SPECTRUM_VALUES), to features for the heads, float32 (B, SPECTRUM_FEATURES).

    Convolutions run along the logarithm of the radius: the rings of a defocus disc keep their shape at any diameter
    and only shift. A fully connected layer reads their position.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(SPECTRUM_VALUES))
        self.register_buffer("spread", torch.ones(SPECTRUM_VALUES))
        self.centre: Tensor
        self.spread: Tensor
        self.whole = _along_radius(SECTORS, 16)
        self.tiles = _along_radius(TILE_SECTORS, 8)
        joined = SPECTRUM_VALUES + RADII * 16 + TILE_RADII * 8
        self.join = nn.Sequential(
            nn.Linear(joined, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, SPECTRUM_FEATURES), nn.ReLU()
        )

    @torch.no_grad()
    def fit(self, spectra: Tensor) -> None:
        """Fit the standardisation of the spectra to examples, float32 (B, SPECTRUM_VALUES)."""
        self.centre.copy_(spectra.mean(dim=0))
        self.spread.copy_(spectra.std(dim=0).clamp_min(_LEAST_SPREAD))

    def forward(self, spectra: Tensor) -> Tensor:
        """Features for the heads, at least 0; see the class."""
        values = (spectra - self.centre) / self.spread
        whole, tiles, levels = torch.split(values, [_WHOLE, _TILES, LEVELS], dim=1)
        rings = self.whole(whole.view(-1, RADII, SECTORS).transpose(1, 2)).flatten(1)
        tile_rings = self.tiles(tiles.view(-1, TILE_RADII, TILE_SECTORS).transpose(1, 2)).flatten(1)
        return cast("Tensor", self.join(torch.cat([whole, tiles, levels, rings, tile_rings], dim=1)))


def _along_radius(sectors: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(sectors, _CHANNELS, kernel_size=5, padding=2),
        nn.GELU(),
        nn.Conv1d(_CHANNELS, _CHANNELS, kernel_size=5, padding=2),
        nn.GELU(),
        nn.Conv1d(_CHANNELS, outputs, kernel_size=5, padding=2),
        nn.GELU(),
    )
