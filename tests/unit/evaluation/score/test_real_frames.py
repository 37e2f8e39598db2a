"""Real frames: info bars, magnification, order of focus; with made-up files in the folder's form."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from semd.domain.frame_score import FrameScore
from semd.errors import ConfigError
from semd.evaluation.score.real_frames import BlurSeries, FocusTriple, evaluate_real, info_bar_rows


def untracked(steps, description):
    return steps


class _Sharpness:
    """A scorer that knows sharp from blurred: the spread of neighbours' differences, and what it was told."""

    def __init__(self) -> None:
        self.magnifications: set[float] = set()
        self.shapes: set[tuple[int, ...]] = set()

    def judge(self, image, magnification):
        self.magnifications.add(round(magnification))
        self.shapes.add(image.shape)
        return FrameScore(float(min(np.diff(image.astype(float)).std() / 5.0, 10.0)))

    def score(self, image, magnification):
        return self.judge(image, magnification).score


@pytest.fixture
def field() -> np.ndarray:
    return np.random.default_rng(0).integers(60, 190, (768, 1024)).astype(np.uint8)


def _with_bar(field: np.ndarray, rows: int) -> np.ndarray:
    picture = field.copy()
    picture[-rows:] = 255
    picture[-rows // 2 : -rows // 3, 100:300] = 0
    return picture


def test_an_info_bar_is_measured_to_the_row(field: np.ndarray) -> None:
    assert info_bar_rows(_with_bar(field, 76)) == 76
    assert info_bar_rows(field) == 0


def test_dark_ground_at_the_bottom_is_no_bar(field: np.ndarray) -> None:
    field[700:720] = 0
    assert info_bar_rows(field) == 0


def test_a_folder_is_judged_as_the_daemon_would_see_it(field: np.ndarray, tmp_path: Path) -> None:
    for name in ("deepfocus", "gold", "zeiss"):
        (tmp_path / name).mkdir()
    for name, sigma in (("pert-5000", 4.0), ("base", 2.0), ("pert5000", 1.0)):
        cv2.imwrite(str(tmp_path / "deepfocus" / f"series_{name}.png"), cv2.GaussianBlur(field, (0, 0), sigma))
    cv2.imwrite(str(tmp_path / "gold" / "gold.png"), field)
    xml = "<Fibics><Scan><Ux>0.0124</Ux></Scan></Fibics>"
    tifffile.imwrite(
        tmp_path / "zeiss" / "slice.tif", _with_bar(field, 48), extratags=[(51023, "s", len(xml) + 1, xml, True)]
    )
    scorer = _Sharpness()
    found = evaluate_real(tmp_path, scorer, untracked, 5000.0)  # type: ignore[arg-type]
    assert len(found.triples) == 9
    assert all(triple.ordered for triple in found.triples)
    assert [series.info_bar_px for series in found.series] == [0, 48]
    assert all(series.falls for series in found.series)
    # 127 mm over 640 pixels of 10 nm; the slice's rows above its bar, 960 wide, are scaled to 640.
    assert scorer.magnifications == {19844, 5000, round(127e6 / 640 / (12.4 * 1.5))}
    assert scorer.shapes == {(480, 640)}
    text = found.as_text()
    assert "in order: 9 of 9" in text
    assert "falling: 2 of 2, 2 of them at every step" in text


def test_a_missing_pixel_size_is_named(field: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "zeiss").mkdir()
    tifffile.imwrite(tmp_path / "zeiss" / "plain.tif", field)
    with pytest.raises(ConfigError, match="pixel size"):
        evaluate_real(tmp_path, _Sharpness(), untracked)  # type: ignore[arg-type]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no micrographs"):
        evaluate_real(tmp_path, _Sharpness(), untracked)  # type: ignore[arg-type]


def test_half_a_triple_is_refused(field: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "deepfocus").mkdir()
    cv2.imwrite(str(tmp_path / "deepfocus" / "series_base.png"), field)
    with pytest.raises(ConfigError, match="pert-5000"):
        evaluate_real(tmp_path, _Sharpness(), untracked)  # type: ignore[arg-type]


def test_falling_and_order_by_hand() -> None:
    def series(*scores: float) -> BlurSeries:
        return BlurSeries("a", 1.0, 0, scores, ())

    assert series(9.0, 8.0, 7.0).falls_strictly
    assert series(10.0, 10.0, 7.0).falls
    assert not series(10.0, 10.0, 7.0).falls_strictly
    assert not series(9.0, 9.0, 7.0).falls
    assert not series(9.0, 9.5, 7.0).falls
    assert FocusTriple("c", 1.0, (1.0, 2.0, 3.0)).ordered
    assert not FocusTriple("c", 1.0, (1.0, 3.0, 2.0)).ordered
