"""Optics compared with values calculated by hand, and kernels with their moments."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from semd.domain.expert_scale import lenient_blur_px
from semd.simulator.optics import Blur, ElectronOptics, pixel_nm, wd_unit_mm


@pytest.mark.parametrize(("magnification", "expected_nm"), [(500, 396.875), (10000, 19.84375), (1, 198437.5)])
def test_pixel_size_follows_the_photographic_convention(magnification: float, expected_nm: float) -> None:
    assert pixel_nm(magnification) == pytest.approx(expected_nm)


def test_pixel_size_scales_with_the_reference_width() -> None:
    assert pixel_nm(1000, reference_width_mm=254.0) == pytest.approx(2 * pixel_nm(1000))


@pytest.mark.parametrize(
    ("magnification", "b0_px", "unit_mm"),
    [(500, 2.0, 0.132292), (2000, 4.0, 0.066146), (10000, 8.944, 0.029581)],
)
def test_experts_grow_lenient_with_magnification(magnification: float, b0_px: float, unit_mm: float) -> None:
    assert lenient_blur_px(magnification) == pytest.approx(b0_px, abs=1e-3)
    assert wd_unit_mm(magnification) == pytest.approx(unit_mm, abs=1e-6)


def test_defocus_disc_is_two_alpha_times_the_distance() -> None:
    # 30 um / 10 mm = 3 mrad; 2 * 3e-3 * 0.1 mm = 600 nm = 1.5118 pixels of 396.875 nm.
    blur = ElectronOptics(aperture_radius_um=30.0).blur(10.0, 9.9, pixel_nm(500))
    assert blur.major_px == pytest.approx(1.5118, abs=1e-4)
    assert blur.minor_px == pytest.approx(blur.major_px)


def test_astigmatism_makes_an_ellipse_and_keeps_a_blur_at_best_focus() -> None:
    optics = ElectronOptics(astigmatism_mm=0.05)
    aside = optics.blur(10.0, 9.9, pixel_nm(2000))
    assert aside.major_px == pytest.approx(3.0 * aside.minor_px)
    best = optics.blur(10.0, 10.0, pixel_nm(2000))
    assert best.major_px == pytest.approx(best.minor_px)
    assert best.major_px > 3.0


def test_spot_terms_by_hand() -> None:
    bare = ElectronOptics(source_nm=0.0, cs_mm=0.0, cc_mm=18.0, energy_spread_ev=2.0, hv_kv=15.0)
    # chromatic: 18e6 nm * 3e-3 * 2 / 15000 = 7.2 nm; diffraction: 0.61 * 0.0099 / 3e-3 = 2.02 nm.
    assert bare.spot_nm(10.0) == pytest.approx(math.hypot(7.2, 2.02), abs=0.02)


def _second_moment_diameter(kernel: np.ndarray) -> float:
    axis = np.arange(len(kernel)) - (len(kernel) - 1) / 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return math.sqrt(8.0 * float((kernel * (x**2 + y**2)).sum()))


@pytest.mark.parametrize(
    "blur",
    [
        Blur(6.0, 6.0),
        Blur(20.0, 20.0, 0.0, 1.5, 0.6),
        Blur(30.0, 12.0, 0.7, 2.0, -0.5),
        Blur(0.0, 0.0, 0.0, 2.0),
        Blur(80.0, 80.0, 0.0, 3.0, 0.4),
    ],
)
def test_effective_diameter_is_the_kernels_second_moment(blur: Blur) -> None:
    kernel = blur.kernel()
    assert kernel.sum() == pytest.approx(1.0, abs=1e-4)
    assert (kernel >= 0.0).all()
    assert _second_moment_diameter(kernel) == pytest.approx(blur.effective_px, rel=0.04, abs=0.3)


def test_a_bright_rim_leaves_a_ring() -> None:
    kernel = Blur(41.0, 41.0, rim=0.6).kernel()
    middle = len(kernel) // 2
    assert kernel[middle, middle + 18] > 2.0 * kernel[middle, middle]


def test_reduced_and_direct_blurring_agree() -> None:
    rng = np.random.default_rng(3)
    picture = cv2.GaussianBlur(rng.standard_normal((256, 320)).astype(np.float32), (0, 0), 3.0)
    blur = Blur(50.0, 50.0, rim=0.3, spot_sigma_px=2.0)
    direct = cv2.filter2D(picture, cv2.CV_32F, blur.kernel(1), borderType=cv2.BORDER_REFLECT_101)
    quick = blur.apply(picture)
    inner = np.s_[40:-40, 40:-40]
    assert np.abs(quick[inner] - direct[inner]).max() < 0.12 * direct[inner].std()


def test_blur_keeps_the_mean_and_no_blur_keeps_the_picture() -> None:
    picture = np.random.default_rng(4).uniform(0, 1, (128, 160)).astype(np.float32)
    assert Blur(12.0, 9.0, 0.4, 1.0).apply(picture).mean() == pytest.approx(picture.mean(), abs=0.01)
    assert Blur(0.0, 0.0).apply(picture) is picture
