"""The independent SEM's optics and detector, without any daemon."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from isem_column import (
    ALPHA_RAD,
    Column,
    annular_transfer,
    clipped_share,
    disc_unit_mm,
    exposure_good,
    gain,
    offset_grey,
    pixel_mm,
    tolerable_disc_px,
)
from isem_samples import FIELD_PX, SAMPLES, make_sample


def column(name: str = "islands", mag: float = 2000.0, **knobs: float) -> Column:
    built = Column.off_focus(
        name, magnification=mag, focus_mm=9.5, discs_off=0.0, brightness=50.0, contrast=50.0, seed=11
    )
    built.turn(**knobs)
    return built


def test_scale_by_hand() -> None:
    # 127 mm / 1000 / 640 = 0.1984375 um; 0.1 mm defocus: 2 * 0.0031 * 0.1 / 1.984375e-4 = 3.12441 px.
    assert pixel_mm(1000.0) == pytest.approx(1.984375e-4)
    assert column(mag=1000.0, wd_mm=9.6).disc_px() == pytest.approx(3.12441, abs=1e-4)
    assert tolerable_disc_px(2000.0) == pytest.approx(4.0)
    assert disc_unit_mm(2000.0) == pytest.approx(4.0 * 9.921875e-5 / (2 * ALPHA_RAD))


@pytest.mark.parametrize("disc_px", [0.0, 3.0, 20.0, 60.0])
def test_kernel_is_a_ring_of_the_stated_width(disc_px: float) -> None:
    kernel = np.fft.fftshift(np.fft.irfft2(annular_transfer(disc_px), s=(FIELD_PX, FIELD_PX)))
    assert kernel.sum() == pytest.approx(1.0, abs=1e-4)
    # Second moment of a uniform ring: (outer**2 + inner**2) / 4 for each axis; the probe adds sigma**2.
    axis = np.arange(FIELD_PX) - FIELD_PX // 2
    variance = float((kernel * axis[None, :] ** 2).sum())
    outer = disc_px / 2
    assert variance == pytest.approx((outer**2 * (1 + 0.25**2)) / 4 + 0.55**2, rel=0.12, abs=0.12)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_sharpness_falls_with_defocus_on_both_sides_at_all_scales(name: str) -> None:
    sem = column(name)
    unit = disc_unit_mm(2000.0)
    for side in (-1, 1):
        # Below the noise, compared at a scale that still has signal at each distance.
        for near, far, sigma in ((0.0, 2.0, 1.5), (2.0, 6.0, 3.0), (6.0, 12.0, 8.0), (12.0, 20.0, 8.0)):
            spread = []
            for discs in (near, far):
                sem.turn(wd_mm=9.5 + side * discs * unit)
                smooth = cv2.GaussianBlur(sem.scan().astype(np.float32), (0, 0), sigma)
                spread.append(float(np.hypot(cv2.Sobel(smooth, -1, 1, 0), cv2.Sobel(smooth, -1, 0, 1)).mean()))
            assert spread[1] < 0.93 * spread[0], (name, side, near, far, spread)


def test_truth_of_focus_has_its_edge_at_1_2_tolerable_discs() -> None:
    unit = disc_unit_mm(2000.0)
    assert column(wd_mm=9.5 + 1.19 * unit).in_focus()
    assert not column(wd_mm=9.5 - 1.21 * unit).in_focus()


@pytest.mark.parametrize(
    ("brightness", "contrast", "good"),
    [(50, 50, True), (60, 40, True), (5, 50, False), (97, 50, False), (50, 98, False)],
)
def test_exposure(brightness: float, contrast: float, good: bool) -> None:
    assert exposure_good(column(brightness=brightness, contrast=contrast).scan()) is good


def test_detector_curves_rise_and_meet_at_mid_scale() -> None:
    scale = np.linspace(0.0, 100.0, 201)
    assert np.all(np.diff([gain(c) for c in scale]) > 0)
    assert np.all(np.diff([offset_grey(b) for b in scale]) > 0)
    assert gain(50.0) == 1.0
    assert offset_grey(50.0) == 128.0


def test_scan_is_noisy_reproducible_and_grey() -> None:
    first, second = column(), column()
    image, again, later = first.scan(), second.scan(), second.scan()
    assert image.shape == (480, 640)
    assert image.dtype == np.uint8
    assert np.array_equal(image, again)
    assert 1.0 < float(np.std(again.astype(float) - later)) < 12.0
    assert clipped_share(image) < 0.03


def test_samples_differ_and_have_the_stated_level() -> None:
    made = [make_sample(name, np.random.default_rng(3)) for name in sorted(SAMPLES)]
    for sample in made:
        assert float(sample.mean()) == pytest.approx(0.45, abs=0.01)
        assert float(sample.std()) == pytest.approx(0.15, abs=0.01)
    for a in range(len(made)):
        for b in range(a):
            assert abs(float(np.corrcoef(made[a].ravel(), made[b].ravel())[0, 1])) < 0.2
