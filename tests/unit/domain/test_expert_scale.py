"""The experts' scale: points for blur, by hand."""

from __future__ import annotations

import pytest

from semd.domain.expert_scale import blur_for_quality, focus_quality


@pytest.mark.parametrize(
    ("blur_px", "magnification", "expected"),
    [
        (0.0, 500, 10.0),
        # x500: b0 = 2, b1 = 62, so a point in log2(1 + (b / b0)**2) costs 9 / log2(1 + 31**2) = 0.90818.
        (2.0, 500, 10.0 - 0.90818),  # blur = b0: log2(2) = 1
        (2.0 * 3**0.5, 500, 10.0 - 2 * 0.90818),  # log2(4) = 2
        (62.0, 500, 1.0),  # just recognisable
        # x8000: b0 = 8, b1 = 62 * 16**0.25 = 124: 9 / log2(1 + 15.5**2) = 1.13717
        (8.0, 8000, 10.0 - 1.13717),
        (124.0, 8000, 1.0),
        (1e6, 500, 1.0),
    ],
)
def test_quality_by_hand(blur_px: float, magnification: float, expected: float) -> None:
    assert focus_quality(blur_px, magnification) == pytest.approx(expected, abs=1e-4)


def test_the_same_blur_is_forgiven_at_high_magnification() -> None:
    assert focus_quality(8.0, 10000) > focus_quality(8.0, 2000) > focus_quality(8.0, 500)


@pytest.mark.parametrize("quality", [1.5, 4.0, 9.0, 9.9])
def test_blur_for_quality_inverts(quality: float) -> None:
    assert focus_quality(blur_for_quality(quality, 2000), 2000) == pytest.approx(quality)
