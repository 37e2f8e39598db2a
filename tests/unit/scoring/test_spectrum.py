"""The spectrum that the scoring network reads, held against pictures whose spectrum is known."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from semd.scoring.spectrum import (
    LEVELS,
    RADII,
    SECTORS,
    SPECTRUM_VALUES,
    TILE_RADII,
    TILE_SECTORS,
    log_spectrum,
    mirrored,
)
from semd.scoring.spectrum_reader import SPECTRUM_FEATURES, SpectrumReader

WHOLE = RADII * SECTORS
TILES = TILE_RADII * TILE_SECTORS
EULER = 0.5772


def of(picture: np.ndarray) -> torch.Tensor:
    """The spectrum of one picture."""
    values: torch.Tensor = log_spectrum(torch.from_numpy(picture.astype(np.float32))[None, None])[0]
    return values


def rings(values: torch.Tensor) -> torch.Tensor:
    return values[:WHOLE].view(RADII, SECTORS)


def ring_at(per_px: float, radii: int = RADII, lowest: float = 1 / 320) -> int:
    return math.floor(math.log(per_px / lowest) / math.log(0.5 / lowest) * radii)


def noise(height: int = 480, width: int = 640, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 1.0, (height, width))


@pytest.mark.parametrize(("height", "width"), [(480, 640), (240, 320), (300, 400), (128, 128)])
def test_white_noise_has_its_variance_at_every_radius(height: int, width: int) -> None:
    values = of(3.0 * noise(height, width))
    fine = rings(values)[ring_at(0.1) :]
    # Small pictures have few frequencies in a ring.
    assert torch.allclose(fine.mean(dim=1), torch.tensor(math.log(9.0)), atol=0.1 if height == 480 else 0.4)
    assert torch.allclose(fine.mean(dim=0), torch.tensor(math.log(9.0)), atol=0.1 if height == 480 else 0.4)
    # The power of a frequency is distributed exponentially: its mean logarithm lies Euler's constant lower.
    tiles = values[WHOLE : WHOLE + TILES].view(TILE_RADII, TILE_SECTORS)[TILE_RADII // 2 :]
    assert float(tiles.mean()) == pytest.approx(math.log(9.0) - EULER, abs=0.1)


@pytest.mark.parametrize(("across_per_px", "down_per_px", "sector"), [(0.1, 0.0, 4), (0.0, 0.1, 0), (0.07, 0.07, 6)])
def test_a_wave_stands_in_its_ring_and_sector(across_per_px: float, down_per_px: float, sector: int) -> None:
    y, x = np.mgrid[0:480, 0:640]
    values = rings(of(np.sin(2.0 * math.pi * (across_per_px * x + down_per_px * y))))
    ring = ring_at(math.hypot(across_per_px, down_per_px))
    strongest = divmod(int(values.argmax()), SECTORS)
    assert abs(strongest[0] - ring) <= 1
    assert strongest[1] == sector


@pytest.mark.parametrize(("height", "width"), [(480, 640), (300, 400)])
def test_a_frame_in_a_mirror_has_the_mirrored_spectrum(height: int, width: int) -> None:
    y, x = np.mgrid[:height, :width]
    leaning = noise(height, width) + 4.0 * np.sin(0.9 * x + 0.3 * y) * (x + 2 * y) / width
    seen = of(leaning)
    assert not torch.allclose(mirrored(seen[None])[0], seen, atol=0.5)
    for picture in (leaning[:, ::-1].copy(), leaning[::-1].copy()):
        spectrum = of(picture)
        assert torch.allclose(mirrored(seen[None])[0, : WHOLE + TILES], spectrum[: WHOLE + TILES], atol=1e-3)
    assert torch.equal(mirrored(seen[None])[0, WHOLE + TILES :], seen[WHOLE + TILES :])
    assert torch.equal(mirrored(mirrored(seen[None]))[0], seen)


@pytest.mark.parametrize("diameter_px", [9, 17, 33])
def test_a_disc_of_defocus_leaves_a_dark_ring_at_1_22_over_its_diameter(diameter_px: int) -> None:
    side = diameter_px + 2
    y, x = np.mgrid[:side, :side] - side // 2
    disc = (np.hypot(x, y) <= diameter_px / 2).astype(np.float64)
    blurred = cv2.filter2D(noise(), -1, disc / disc.sum(), borderType=cv2.BORDER_WRAP)
    profile = rings(of(blurred)).mean(dim=1)
    zero = ring_at(1.22 / diameter_px)
    darkest = zero - 4 + int(profile[zero - 4 : zero + 5].argmin())
    assert abs(darkest - zero) <= 1
    # Between the first zero and the second it is brighter again.
    assert float(profile[ring_at(1.63 / diameter_px)] - profile[darkest]) > 0.5


def test_more_light_moves_the_spectrum_and_leaves_its_form() -> None:
    picture = cv2.GaussianBlur(noise(), (0, 0), 2.0)
    dark, bright = of(picture), of(2.0 * picture + 0.3)
    moved = (bright - dark)[:WHOLE].view(RADII, SECTORS)[: ring_at(0.1)]
    assert torch.allclose(moved, torch.tensor(math.log(4.0)), atol=0.01)


def test_a_batch_is_what_its_frames_are() -> None:
    pictures = torch.from_numpy(np.stack([noise(seed=1), 0.1 * noise(seed=2)]).astype(np.float32))[:, None]
    together = log_spectrum(pictures)
    assert together.shape == (2, SPECTRUM_VALUES)
    assert torch.allclose(together, torch.cat([log_spectrum(each[None]) for each in pictures]), atol=1e-5)


@pytest.mark.parametrize("grey", [-1.8, 0.0, 2.2])
def test_a_plain_frame_has_a_finite_spectrum(grey: float) -> None:
    values = of(np.full((240, 320), grey))
    assert torch.isfinite(values).all()
    levels = values[-LEVELS:]
    assert torch.allclose(levels[:9], torch.tensor(grey))
    assert levels[9:].tolist() == [1.0, 1.0]


def test_levels_are_quantiles_and_clipped_shares() -> None:
    picture = np.repeat(np.linspace(0.0, 1.0, 640)[None], 480, axis=0)
    picture[:, :64] = 0.0
    levels = of(picture)[-LEVELS:]
    assert levels[[0, 4, 8]].tolist() == pytest.approx([0.0, 0.5, 1.0], abs=0.02)
    assert float(levels[9]) == pytest.approx(0.1, abs=0.01)
    assert float(levels[10]) < 0.02


def test_the_reader_learns_the_scale_of_spectra() -> None:
    reader = SpectrumReader()
    spectra = torch.from_numpy(np.random.default_rng(0).normal(5.0, 3.0, (500, SPECTRUM_VALUES)).astype(np.float32))
    reader.fit(spectra)
    assert torch.allclose(reader.centre, torch.tensor(5.0), atol=0.7)
    assert torch.allclose(reader.spread, torch.tensor(3.0), atol=0.5)
    told = reader(spectra)
    assert told.shape == (500, SPECTRUM_FEATURES)
    told.sum().backward()
    assert all(parameter.grad is not None for parameter in reader.parameters())
