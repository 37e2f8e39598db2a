"""Sharpness metrics against independent reckoning, and the best rising map against hand-worked values."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from semd.evaluation.baselines.sharpness_metrics import band_pass_metric, fit_monotone, gradient_metric, variance_metric


@pytest.fixture
def image() -> np.ndarray:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:240, :320]
    wave = 128 + 50 * np.sin(x / 7.0) * np.cos(y / 11.0)
    return np.clip(wave + rng.normal(0, 10, wave.shape), 0, 255).astype(np.uint8)


def test_variance_and_gradient_by_hand() -> None:
    image = np.array([[0, 10], [20, 60]], np.uint8)
    assert variance_metric(image) == pytest.approx(np.var([0, 10, 20, 60]))
    assert gradient_metric(image) == pytest.approx((10 + 40 + 20 + 50) / 4)


def test_the_band_pass_metric_is_the_ratio_of_variances_of_gaussians(image: np.ndarray) -> None:
    """Oracle: Gaussians in frequency space at full resolution, on a periodic extension by mirroring."""
    mirrored = np.block([[image, image[:, ::-1]], [image[::-1], image[::-1, ::-1]]]).astype(np.float64)
    fy, fx = np.fft.fftfreq(mirrored.shape[0])[:, None], np.fft.fftfreq(mirrored.shape[1])[None, :]

    def gaussian(sigma: float) -> np.ndarray:
        passed = np.fft.fft2(mirrored) * np.exp(-2 * (np.pi * sigma) ** 2 * (fx**2 + fy**2))
        return np.fft.ifft2(passed).real[:240, :320]

    expected = (gaussian(4) - gaussian(8)).var() / gaussian(4).var()
    assert band_pass_metric(image) == pytest.approx(expected, rel=0.05)


def test_a_flat_frame_has_no_band() -> None:
    assert band_pass_metric(np.full((240, 320), 255, np.uint8)) == 0.0


def test_violators_are_pooled_by_hand() -> None:
    # Scores 1, 3, 2, 4: the middle two become 2.5 at the middle of their places.
    learnt = fit_monotone(np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0, 4.0]))
    assert learnt.metric.tolist() == [0.0, 1.5, 3.0]
    assert learnt.score.tolist() == [1.0, 2.5, 4.0]
    assert learnt(np.array([-5.0, 0.75, 1.5, 99.0])).tolist() == [1.0, 1.75, 2.5, 4.0]


def test_equal_metrics_count_as_one_place() -> None:
    learnt = fit_monotone(np.array([2.0, 1.0, 2.0, 2.0]), np.array([9.0, 3.0, 6.0, 6.0]))
    assert learnt(np.array([1.0, 2.0])).tolist() == [3.0, 7.0]


def test_no_rising_steps_fit_better() -> None:
    """Brute force: all rising assignments of eight scores on a coarse scale."""
    rng = np.random.default_rng(5)
    score = rng.integers(0, 4, 6).astype(float)
    place = np.arange(6.0)
    learnt = fit_monotone(place, score)
    # The steps behind the map: each place belongs to the nearest pooled middle.
    edges = np.searchsorted((learnt.metric[1:] + learnt.metric[:-1]) / 2, place)
    steps = learnt.score[edges]
    best = min(
        sum((np.array(rising) - score) ** 2)
        for rising in itertools.combinations_with_replacement(np.linspace(0, 3, 13), 6)
    )
    assert sum((steps - score) ** 2) <= best + 1e-9


def test_a_metric_that_only_falls_tells_nothing() -> None:
    learnt = fit_monotone(np.arange(5.0), np.arange(5.0)[::-1].copy())
    assert learnt(np.arange(5.0)).tolist() == [2.0] * 5
