"""Augmentation of frames: crops and mild changes of light."""

from __future__ import annotations

import numpy as np
import pytest

from semd.scoring.preprocess import standardise
from semd.training.score.augmentation import photometric, random_crops


def test_crops_are_parts_of_their_frames() -> None:
    images = np.arange(2 * 40 * 50, dtype=np.uint32).reshape(2, 40, 50)
    rng = np.random.default_rng(1)
    coded = (images % 251).astype(np.uint8)
    crops = random_crops(coded, np.array([1, 0, 1]), 16, 24, rng)
    assert crops.shape == (3, 16, 24)
    for crop, frame in zip(crops, (coded[1], coded[0], coded[1]), strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(frame, (16, 24))
        turned = (crop[::a, ::b] for a in (1, -1) for b in (1, -1))
        assert any((windows == view).all(axis=(2, 3)).any() for view in turned)


def test_the_place_with_most_in_it_is_preferred() -> None:
    image = np.zeros((1, 64, 256), np.uint8)
    image[0, :, 128:] = np.random.default_rng(0).integers(0, 256, (64, 128))
    rng = np.random.default_rng(2)
    empty = [float(random_crops(image, np.array([0]), 32, 32, rng, tries=6).std()) < 1.0 for _ in range(40)]
    assert np.mean(empty) < 0.15


def test_light_changes_are_mild_and_leave_some_alone() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (64, 24, 24)).astype(np.uint8)
    changed = photometric(crops, np.random.default_rng(3))
    plain = standardise(crops)
    untouched = np.abs(changed - plain).reshape(64, -1).max(axis=1) < 1e-4
    assert 0.1 < untouched.mean() < 0.55
    assert changed.dtype == np.float32
    assert changed.min() >= plain.min() - 1e-4
    assert changed.max() <= plain.max() + 1e-4


def test_without_noise_equal_greys_stay_equal_and_the_share_is_kept() -> None:
    crops = np.repeat(np.arange(64, dtype=np.uint8)[:, None, None] * 4, 8, axis=1).repeat(8, axis=2)
    changed = photometric(crops, np.random.default_rng(3), share=1.0, noise_share=0.0)
    assert np.ptp(changed.reshape(64, -1), axis=1).max() < 1e-6
    assert np.abs(changed - standardise(crops)).max() > 0.1
    noisy = photometric(crops, np.random.default_rng(3), share=1.0, noise_share=1.0)
    assert np.mean(np.ptp(noisy.reshape(64, -1), axis=1) > 0.01) > 0.8
    assert photometric(crops, np.random.default_rng(3), share=0.0) == pytest.approx(standardise(crops), abs=1e-5)
