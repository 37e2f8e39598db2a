"""AVG, GRD, VAR (2) and the exposure, against hand-worked frames and slow loops."""

from __future__ import annotations

import numpy as np
import pytest

from semd.domain.exposure import Exposure, ExposureRange, measure_exposure
from semd.domain.features import Features, grey_histogram, measure_features


def measure(image: np.ndarray) -> Features:
    return measure_features(image, grey_histogram(image))


@pytest.mark.parametrize(
    ("rows", "avg", "grd", "var"),
    [
        ([[0, 0], [0, 0]], 0.0, 0.0, 0.0),
        ([[255, 255], [255, 255]], 255.0, 0.0, 0.0),
        # columns 0 | 255: two steps of 255 across, none down
        ([[0, 255], [0, 255]], 127.5, 510.0, 127.5**2),
        # 10 20 / 40 80: across 10 + 40, down 30 + 60; mean 37.5; squares 756.25, 306.25, 6.25, 1806.25
        ([[10, 20], [40, 80]], 37.5, 140.0, 718.75),
        # falling edges count as much as rising ones, and do not wrap around in uint8
        ([[255, 0], [255, 0]], 127.5, 510.0, 127.5**2),
        ([[1, 2, 4], [1, 2, 4]], 7 / 3, 6.0, 14 / 9),
    ],
)
def test_features_by_hand(rows: list[list[int]], avg: float, grd: float, var: float) -> None:
    features = measure(np.array(rows, np.uint8))
    assert features.avg == pytest.approx(avg)
    assert features.grd == grd
    assert features.var == pytest.approx(var)
    assert features.pixels == len(rows) * len(rows[0])


def test_features_equal_a_loop_over_pixels() -> None:
    image = np.random.default_rng(3).integers(0, 256, (7, 9), dtype=np.uint8)
    grey = image.astype(int).tolist()
    grd = sum(abs(grey[y][x + 1] - grey[y][x]) for y in range(7) for x in range(8))
    grd += sum(abs(grey[y + 1][x] - grey[y][x]) for y in range(6) for x in range(9))
    features = measure(image)
    assert features.grd == grd
    assert features.avg == pytest.approx(image.mean())
    assert features.var == pytest.approx(image.var())


def test_normalised_features_stay_in_the_networks_range() -> None:
    checker = (np.indices((480, 640)).sum(axis=0) % 2 * 255).astype(np.uint8)
    hardest = measure(checker)
    assert hardest.avg_normalised == pytest.approx(0.0)
    assert hardest.var_normalised == pytest.approx(1.0)
    assert 1.4 < hardest.grd_normalised < np.sqrt(2.0)  # two gradients of 255 a pixel, less at the border
    black = measure(np.zeros((480, 640), np.uint8))
    assert (black.avg_normalised, black.grd_normalised, black.var_normalised) == (-1.0, 0.0, 0.0)


def test_exposure_by_hand() -> None:
    # 100 pixels: 3 black, 2 white, 95 spread evenly over 100 and 200 (47 and 48)
    image = np.array([0] * 3 + [255] * 2 + [100] * 47 + [200] * 48, np.uint8).reshape(10, 10)
    exposure = measure_exposure(grey_histogram(image))
    assert exposure.black == pytest.approx(0.03)
    assert exposure.white == pytest.approx(0.02)
    assert exposure.level == pytest.approx((2 * 255 + 47 * 100 + 48 * 200) / 100)
    assert exposure.contrast == 200.0  # the 2nd percentile is still black, the 98th is 200
    assert not exposure.is_flat


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_single_grey_value_is_flat(grey: int) -> None:
    exposure = measure_exposure(grey_histogram(np.full((20, 20), grey, np.uint8)))
    assert exposure.is_flat
    assert exposure.level == grey


GOOD = ExposureRange(max_clipped=0.04, min_level=60.0, max_level=195.0, min_contrast=90.0)


@pytest.mark.parametrize(
    ("exposure", "defect"),
    [
        (Exposure(0.0, 0.0, 128.0, 160.0), 0.0),
        (Exposure(0.02, 0.02, 60.0, 90.0), 0.0),  # on every edge
        (Exposure(0.10, 0.04, 128.0, 200.0), 0.4),  # 4 * (0.14 - 0.04)
        (Exposure(0.0, 0.0, 45.0, 160.0), 0.25),  # 15 / 60
        (Exposure(0.0, 0.0, 210.0, 160.0), 0.25),
        (Exposure(0.0, 0.0, 128.0, 45.0), 0.5),
        (Exposure(1.0, 0.0, 0.0, 0.0), 3.0),  # all black: every term at its largest
        (Exposure(0.0, 1.0, 255.0, 0.0), 3.0),
    ],
)
def test_exposure_defect(exposure: Exposure, defect: float) -> None:
    assert GOOD.defect(exposure) == pytest.approx(defect)
    assert GOOD.accepts(exposure) is (defect == 0.0)
