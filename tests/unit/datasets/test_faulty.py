"""Frames that nobody should score are what they say they are."""

from __future__ import annotations

import numpy as np
import pytest

from semd.datasets.faulty import FAULTS, Fault, faulty_frames
from semd.domain.frame_score import QualityFlag
from semd.scoring.faults import clipped_share, find_faults


@pytest.mark.parametrize("fault", FAULTS)
def test_the_same_arguments_give_the_same_frames(fault: Fault) -> None:
    one, again = (list(faulty_frames(fault, 2, 5)) for _ in range(2))
    other = next(faulty_frames(fault, 1, 6))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(one, again, strict=True))
    assert one[0].image.shape == (480, 640)
    assert one[0].image.dtype == np.uint8
    assert [frame.magnification for frame in one] == [500.0, 1000.0]
    if fault in ("noise", "striped", "unknown sample"):  # the others may be one level throughout
        assert not np.array_equal(one[0].image, other.image)


def test_levels_are_the_names() -> None:
    def levels(fault: Fault) -> list[float]:
        return [float(frame.image.mean()) for frame in faulty_frames(fault, 10, 1)]

    assert min(levels("white")) > 210
    assert max(levels("black")) < 45
    assert min(levels("saturated")) > 200


def test_saturated_frames_are_clipped() -> None:
    assert all(clipped_share(frame.image) > 0.5 for frame in faulty_frames("saturated", 10, 2))


def test_stripes_of_charging_are_found_in_nearly_all() -> None:
    found = [QualityFlag.STRIPED in find_faults(frame.image).flags for frame in faulty_frames("striped", 40, 9)]
    assert np.mean(found) >= 0.95
