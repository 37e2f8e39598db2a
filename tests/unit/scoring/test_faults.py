"""Faults seen without the network: clipping and charging stripes, and what must not be taken for them."""

from __future__ import annotations

import numpy as np
import pytest

from semd.domain.frame_score import QualityFlag
from semd.scoring.faults import LEAST_STRUCTURE_GREY, clipped_share, find_faults, stripe_grey, stripes, structure_grey


@pytest.fixture
def blobs() -> np.ndarray:
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:480, :640]
    picture = np.full((480, 640), 90.0)
    for _ in range(60):
        cy, cx, r = rng.uniform(0, 480), rng.uniform(0, 640), rng.uniform(8, 50)
        picture += 70.0 * ((y - cy) ** 2 + (x - cx) ** 2 < r * r)
    return np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)


def _striped(image: np.ndarray, amplitude_grey: float, lines: int = 12) -> np.ndarray:
    rng = np.random.default_rng(4)
    slow = np.interp(np.arange(480), np.arange(0, 492, lines), rng.normal(0, 1, len(range(0, 492, lines))))
    return np.clip(image + amplitude_grey * slow[:, None], 0, 255).astype(np.uint8)


def test_an_ordinary_frame_has_no_faults(blobs: np.ndarray) -> None:
    assert find_faults(blobs).flags == frozenset()


def test_stripes_along_the_lines_are_found(blobs: np.ndarray) -> None:
    assert QualityFlag.STRIPED in find_faults(_striped(blobs, 25.0)).flags
    assert stripe_grey(_striped(blobs, 25.0)) > stripe_grey(_striped(blobs, 10.0)) > stripe_grey(blobs)


def test_stripes_are_told_by_their_lines_and_slow_changes_are_not() -> None:
    image = np.full((480, 640), 100, np.uint8)
    image[80:88] = 120
    told = np.array(stripes(image))
    assert told.shape == (60,)
    assert told.argmax() == 10
    # 8 of the 49 lines about it are 20 levels brighter than the rest.
    assert told[10] == pytest.approx(20.0 - 20.0 * 8 / 49, abs=0.01)
    ramp = np.broadcast_to(np.linspace(50.0, 200.0, 480).astype(np.uint8)[:, None], (480, 640))
    assert np.abs(stripes(ramp)[6:-6]).max() < 0.5
    assert np.corrcoef(stripes(_striped(image, 10.0)), stripes(_striped(image, 20.0)))[0, 1] > 0.95


def test_a_grid_with_bars_both_ways_is_not_striped() -> None:
    y, x = np.mgrid[:480, :640]
    grid = np.where((y % 90 < 30) | (x % 90 < 30), 170, 60).astype(np.uint8)
    assert QualityFlag.STRIPED not in find_faults(grid).flags


def test_clipped_pixels_are_counted_by_hand() -> None:
    image = np.full((480, 640), 100, np.uint8)
    image[:120] = 255
    image[120:240, :320] = 0
    assert clipped_share(image) == pytest.approx(0.25 + 0.125)
    assert QualityFlag.SATURATED not in find_faults(image).flags
    image[:400] = 255
    assert QualityFlag.SATURATED in find_faults(image).flags


def test_a_pure_picture_has_its_own_spread() -> None:
    boxes = np.kron(np.array([[60, 140], [140, 60]]), np.ones((160, 160))).astype(np.uint8)
    assert structure_grey(boxes) == pytest.approx(40.0)


def test_noise_however_strong_and_stripes_are_no_picture() -> None:
    rng = np.random.default_rng(0)
    noise = np.clip(rng.normal(128, 25, (480, 640)), 0, 255).astype(np.uint8)
    for empty in (noise, _striped(noise, 20.0), np.zeros((480, 640), np.uint8)):
        assert structure_grey(empty) < LEAST_STRUCTURE_GREY
        assert QualityFlag.BLANK in find_faults(empty).flags


def test_a_faint_picture_in_noise_is_still_one() -> None:
    rng = np.random.default_rng(1)
    wave = 4.0 * np.sin(np.mgrid[:480, :640][1] / 20.0)
    faint = np.clip(128 + wave + rng.normal(0, 20, wave.shape), 0, 255).astype(np.uint8)
    assert structure_grey(faint) == pytest.approx(4.0 / np.sqrt(2.0), rel=0.1)
    assert QualityFlag.BLANK not in find_faults(faint).flags


@pytest.mark.parametrize("pitch_px", [60, 90, 150, 200])
def test_a_grid_that_lies_along_the_scan_is_not_striped(pitch_px: int) -> None:
    y, x = np.mgrid[:480, :640]
    bars = ((y + 17) % pitch_px < pitch_px // 3) | ((x + 34) % pitch_px < pitch_px // 3)
    assert QualityFlag.STRIPED not in find_faults(np.where(bars, 170, 60).astype(np.uint8)).flags


@pytest.mark.parametrize("bar", [(150, 330), (-1, 200), (300, 480), (210, 260)])
def test_one_bar_along_the_scan_is_not_striped(bar: tuple[int, int]) -> None:
    y = np.arange(480)[:, None]
    picture = np.where((y > bar[0]) & (y < bar[1]), 170, 60) + np.zeros((1, 640))
    noisy = np.clip(picture + np.random.default_rng(5).normal(0, 8, picture.shape), 0, 255).astype(np.uint8)
    assert QualityFlag.STRIPED not in find_faults(noisy).flags
    assert QualityFlag.STRIPED in find_faults(_striped(noisy, 25.0)).flags
