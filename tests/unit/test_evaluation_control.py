"""Success is the truth's word, not the scorer's; the table's arithmetic is checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from semd.domain.action import Status
from semd.domain.judgement import Judgement
from semd.evaluation.control import PAPER_TABLE, simulator_rules, summarise, wilson_interval
from semd.evaluation.episode import Episode, run_episode
from semd.pipeline import Pipeline
from semd.simulator.microscope import VirtualMicroscope


class Opinion:
    """A scoring machine with one opinion."""

    def __init__(self, score: float) -> None:
        self.value = score

    def judge(self, image: np.ndarray, magnification: float) -> Judgement:
        assert image.shape == (480, 640)
        assert magnification == 1000.0
        return Judgement(self.value)


def still(state: np.ndarray) -> np.ndarray:
    assert state.shape == (50,)
    return np.zeros(3, np.float32)


def pipeline(score: float) -> Pipeline:
    return Pipeline(Opinion(score), still, simulator_rules(5, 0.2), "0" * 64)


def well_exposed(*, in_focus: bool) -> VirtualMicroscope:
    microscope = VirtualMicroscope("tinball", 1000.0, 2)
    microscope.apply(brightness=microscope.detector.brightness_optimum, contrast=microscope.detector.contrast_optimum)
    if in_focus:
        microscope.apply(wd_mm=microscope.focus_wd_mm)
    return microscope


def test_a_flattering_scorer_makes_no_success() -> None:
    blurred = run_episode(well_exposed(in_focus=False), pipeline(9.9))
    assert blurred.status is Status.DONE
    assert blurred.true_score < 9
    assert not blurred.success
    sharp = run_episode(well_exposed(in_focus=True), pipeline(9.9))
    assert sharp.success
    assert sharp.frames == 1


def test_without_a_passing_score_the_run_gives_up_where_it_began() -> None:
    microscope = well_exposed(in_focus=False)
    start_mm = microscope.wd_mm
    episode = run_episode(microscope, pipeline(5.0))
    assert (episode.status, episode.frames) == (Status.GIVE_UP, 50)
    assert microscope.wd_mm == pytest.approx(start_mm, abs=1e-4)
    assert not episode.success


def episode(**changes: object) -> Episode:
    values: dict[str, object] = {
        "status": Status.DONE,
        "frames": 5,
        "score": 9.5,
        "true_score": 9.5,
        "start_true_score": 3.0,
        "wd_error_mm": 0.03,
        "blur_px": 1.0,
        "brightness_contrast_ok": True,
    }
    return Episode(**(values | changes))  # type: ignore[arg-type]


def test_a_row_by_hand() -> None:
    row = summarise(
        "grid",
        500,
        [
            episode(),
            episode(frames=30, wd_error_mm=-0.04),
            episode(true_score=8.0, brightness_contrast_ok=False),
            episode(status=Status.GIVE_UP, frames=50, true_score=2.0),
        ],
    )
    assert row.success == 0.25  # one was too slow, one wrong, one gave up
    assert row.wd_rmse_mm == pytest.approx(((0.03**2 * 3 + 0.04**2) / 4) ** 0.5)
    assert row.exposure_success == 0.75
    assert row.mean_true_score == pytest.approx(7.25)
    assert row.median_frames == 17.5
    assert (row.worse_than_start, row.false_done) == (1, 1)


def test_wilson_interval_by_hand() -> None:
    # 8 of 10: (0.8 + 0.19208 +- 1.96 * sqrt(0.016 + 0.009604)) / 1.38416
    assert wilson_interval(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(1.0, 160)[0] == pytest.approx(0.9766, abs=1e-4)


def test_the_papers_rows() -> None:
    # FACTS 1, Table I: grid at x500 and tin ball at x5000.
    assert PAPER_TABLE["grid", 500] == (0.2267, 1.0, 9.5353)
    assert PAPER_TABLE["tinball", 5000] == (0.0718, 1.0, 9.3766)
