"""Detector: its equation and its noise statistics."""

from __future__ import annotations

import numpy as np
import pytest

from semd.simulator.detector import Detector


def test_gain_doubles_per_octave_and_offset_is_linear() -> None:
    detector = Detector(gain_grey=200.0, contrast_optimum=40.0, brightness_optimum=60.0)
    assert detector.gain(40.0) == pytest.approx(200.0)
    assert detector.gain(56.0) == pytest.approx(400.0)
    assert detector.offset(60.0) == pytest.approx(127.5)
    assert detector.offset(50.0) == pytest.approx(87.5)


def test_noise_has_the_promised_spread() -> None:
    signal = np.full((300, 300), 0.5, np.float32)
    detector = Detector(mid=0.5, electrons=100.0, readout_grey=2.0, smear=0.5)
    frame = detector.digitise(signal, 50.0, 50.0, np.random.default_rng(0))
    # shot: 250 * sqrt(0.5 / 100) = 17.7; with the readout noise 17.8 grey levels.
    assert frame.std() == pytest.approx(17.8, rel=0.03)
    assert frame.mean() == pytest.approx(127.5, abs=0.5)


def test_clipping_and_type() -> None:
    signal = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    frame = Detector().digitise(signal, 50.0, 90.0, np.random.default_rng(0))
    assert frame.dtype == np.uint8
    assert frame.min() == 0
    assert frame.max() == 255


def test_tuned_detector_fills_the_scale_without_clipping() -> None:
    signal = np.random.default_rng(1).uniform(0.1, 0.35, (120, 160)).astype(np.float32)
    detector = Detector().tuned_to(signal)
    grey = detector.ideal(signal, detector.brightness_optimum, detector.contrast_optimum)
    low, high = np.percentile(grey, (2, 98))
    assert high - low == pytest.approx(160.0, rel=0.01)
    assert grey.min() > 0.0
    assert grey.max() < 255.0


def test_one_seed_one_frame() -> None:
    signal = np.random.default_rng(1).uniform(0, 1, (64, 64)).astype(np.float32)
    detector = Detector(jitter_px=0.4, drift_px=2.0, charging_grey=3.0)
    first, again, other = (detector.digitise(signal, 50, 50, np.random.default_rng(s)) for s in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
