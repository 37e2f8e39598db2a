"""Expert score and suitable exposure as documented rules."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from semd.domain.expert_scale import focus_quality
from semd.simulator.detector import Detector
from semd.simulator.truth import (
    brightness_contrast_ok,
    ground_truth,
    recognisability,
)


@pytest.fixture
def checkers() -> np.ndarray:
    tile = np.kron([[0.2, 0.6], [0.6, 0.2]], np.ones((20, 20)))
    return np.tile(tile, (12, 16)).astype(np.float32)


@pytest.fixture
def detector(checkers: np.ndarray) -> Detector:
    return Detector(electrons=300.0).tuned_to(checkers)


def test_ordinary_exposure_does_not_move_the_score(checkers: np.ndarray, detector: Detector) -> None:
    labels = {
        ground_truth(checkers, checkers, detector, 1000, brightness, contrast, 5.0, 0.0).label
        for brightness in (35.0, 50.0, 65.0)
        for contrast in (40.0, 50.0, 60.0)
    }
    assert labels == {round(focus_quality(5.0, 1000))}


@pytest.mark.parametrize("brightness", [-60.0, 160.0])
def test_white_and_black_are_zero(checkers: np.ndarray, detector: Detector, brightness: float) -> None:
    truth = ground_truth(checkers, checkers, detector, 1000, brightness, 50.0, 2.0, 0.0)
    assert (truth.label, truth.true_score) == (0, 0.0)
    assert not truth.brightness_contrast_ok


def test_noise_alone_is_zero(checkers: np.ndarray, detector: Detector) -> None:
    nothing = np.full_like(checkers, 0.4)
    assert ground_truth(nothing, checkers, detector, 1000, 50.0, 50.0, 2.0, 0.0).label == 0


def test_recognisability_falls_with_the_dose(checkers: np.ndarray, detector: Detector) -> None:
    faint = (0.4 + 0.2 * (checkers - 0.4)).astype(np.float32)
    seen = [recognisability(faint, faint, replace(detector, electrons=n), 50.0, 50.0, 2.0) for n in (3000.0, 30.0, 1.0)]
    assert seen[0] == 1.0
    assert seen[0] > seen[1] >= seen[2] == 0.0


def test_a_smooth_gradient_holds_nothing_to_judge_sharpness_by(detector: Detector) -> None:
    gradient = np.linspace(0.3, 0.5, 640, dtype=np.float32)[None, :].repeat(480, axis=0)
    assert ground_truth(gradient, gradient, detector, 1000, 50.0, 50.0, 2.0, 0.0).label < 10
    assert recognisability(gradient, gradient, replace(detector, gain_grey=60.0), 50.0, 50.0, 2.0) == 0.0


def test_detail_that_its_noise_hides_is_nothing_to_judge_sharpness_by() -> None:
    # A hollow of the grid: clouds that can be seen, and grain too faint for the noise that the gain brings with it.
    rng = np.random.default_rng(0)
    clouds = np.kron(rng.standard_normal((6, 8)), np.ones((80, 80)))
    clouds = cv2.GaussianBlur((0.4 + 0.02 * clouds).astype(np.float32), (0, 0), 40.0)
    hollow = clouds + np.float32(0.003) * rng.standard_normal((480, 640), dtype=np.float32)
    # Grain 4.8 grey levels, noise 45, a disc of 5 px averages 19.6 of its pixels: 4.8 * 4.43 / 45 is below a half.
    noisy = Detector(gain_grey=1600.0, electrons=500.0)
    quiet = replace(noisy, electrons=500.0 * 30.0**2)
    assert recognisability(hollow, hollow, noisy, 50.0, 50.0, 2.0) == 0.0
    assert recognisability(hollow, hollow, quiet, 50.0, 50.0, 2.0) == 1.0


def test_good_exposure_has_two_sides_on_both_knobs(checkers: np.ndarray, detector: Detector) -> None:
    def good(brightness: float, contrast: float) -> bool:
        return brightness_contrast_ok(checkers, detector, brightness, contrast)

    assert good(50.0, 50.0)
    assert not good(20.0, 50.0)
    assert not good(80.0, 50.0)
    assert not good(50.0, 20.0)
    assert not good(50.0, 80.0)


def test_noise_can_spoil_good_exposure(checkers: np.ndarray, detector: Detector) -> None:
    assert not brightness_contrast_ok(checkers, replace(detector, electrons=2.0), 50.0, 50.0)
