"""Success is the truth's word, not the scorer's; the table's arithmetic is checked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semd.domain.frame_score import FrameScore
from semd.errors import ConfigError
from semd.evaluation.control.control_report import count_hollow
from semd.evaluation.control.control_runs import RUNS_FILE, Cell, play_runs
from semd.evaluation.control.episode import Episode, run_episode
from semd.evaluation.control.figure_eight import save_fig8, true_path
from semd.evaluation.control.table_one import PAPER_TABLE, make_table, simulator_rules, summarise, wilson_interval
from semd.pipeline import Pipeline
from semd.protocol.action import Status
from semd.simulator.microscope import VirtualMicroscope


class Opinion:
    """A scoring machine with one opinion."""

    def __init__(self, score: float) -> None:
        self.value = score

    def judge(self, image: np.ndarray, magnification: float) -> FrameScore:
        assert image.shape == (480, 640)
        assert magnification == 1000.0
        return FrameScore(self.value)


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
    episode = run_episode(microscope, pipeline(7.5))
    # Seven frames after the first none was better, and the microscope stands where the best was seen.
    assert (episode.status, episode.frames) == (Status.GIVE_UP, 8)
    assert len(episode.path) == 8
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
    assert row.interval == wilson_interval(0.25, 4)
    assert row.ended_good == 0.25
    assert row.wd_rmse_mm == pytest.approx(((0.03**2 * 3 + 0.04**2) / 4) ** 0.5)
    assert row.exposure_success == 0.75
    assert row.mean_true_score == pytest.approx(7.25)
    assert row.median_frames == 17.5
    assert (row.worse_than_start, row.lower_than_start, row.false_done) == (1, 1, 1)


def test_a_hair_below_the_start_is_counted_by_itself() -> None:
    start = episode().start_true_score
    lower = [episode(true_score=start - drop) for drop in (0.0, 0.01, 0.09, 0.11)]
    row = summarise("grid", 500, lower)
    assert (row.worse_than_start, row.lower_than_start) == (1, 3)
    text = make_table({("grid", 500): lower}).as_text()
    assert "worse: by more than 0.1 points; lower at all: 3 of 4" in text


def test_wilson_interval_by_hand() -> None:
    # 8 of 10: (0.8 + 0.19208 +- 1.96 * sqrt(0.016 + 0.009604)) / 1.38416
    assert wilson_interval(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(1.0, 160)[0] == pytest.approx(0.9766, abs=1e-4)


def test_the_papers_rows() -> None:
    # Table I of the paper: grid at x500 and tin ball at x5000.
    assert PAPER_TABLE["grid", 500] == (0.2267, 1.0, 9.5353)
    assert PAPER_TABLE["tinball", 5000] == (0.0718, 1.0, 9.3766)


def test_an_honest_give_up_on_a_good_picture_is_no_success_but_ended_good() -> None:
    row = summarise("grid", 500, [episode(status=Status.GIVE_UP)])
    assert (row.success, row.ended_good) == (0.0, 1.0)


def test_the_papers_row_stands_above_ours_where_there_is_one() -> None:
    table = make_table({("grid", 500): [episode()], ("gold", 500): [episode(frames=7)]})
    lines = table.as_text().splitlines()
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["grid", "500", "paper"],
        ["grid", "500", "semd"],
        ["gold", "500", "semd"],
    ]
    assert "0.2267" in lines[1]
    assert "conventional" in lines[4]
    assert table.total.episodes == 2
    assert table.as_json()["paper_conventional_wd_rmse_score"]["grid"] == (0.3681, 7.0182)


def test_a_run_that_has_ended_stays_where_it_ended() -> None:
    path = true_path(episode(path=(1.0, 4.0, 9.6), true_score=9.6))
    assert path == [1.0, 4.0, *[9.6] * 23]


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    groups = {("grid", 500): [episode(path=(3.0, 9.5))], ("tinball", 1000): [episode(path=(2.0, 9.5))] * 3}
    save_fig8(tmp_path / "fig8.png", groups)
    assert (tmp_path / "fig8.png").read_bytes().startswith(b"\x89PNG")


def test_hollows_are_counted() -> None:
    runs = [episode(frames=12, status=Status.GIVE_UP), episode(frames=16, status=Status.GIVE_UP), episode(frames=3)]
    found = count_hollow(runs)
    assert (found.episodes, found.done, found.most_frames, found.ended_soon) == (3, 1, 16, 2)


def test_runs_are_kept_and_not_played_again(tmp_path: Path) -> None:
    cells = [Cell("tinball", 5000), Cell("grid", 10000, "force")]
    played: list[int] = []

    def count(steps, total):
        played.append(total)
        return steps

    first = play_runs(cells, 1, None, 1, count, tmp_path)
    again = play_runs(cells, 1, None, 1, count, tmp_path)
    assert first == again
    assert played == [2, 0]
    kept = tmp_path / RUNS_FILE
    # A line cut short by a kill is played again; one that is broken in the middle is somebody else's file.
    kept.write_text(kept.read_text()[:-20])
    assert play_runs(cells, 1, None, 1, count, tmp_path) == first
    assert played[-1] == 1
    kept.write_text("nonsense\n" + kept.read_text())
    with pytest.raises(ConfigError, match="line 1"):
        play_runs(cells, 1, None, 1, count, tmp_path)


def test_no_process_is_too_few() -> None:
    with pytest.raises(ConfigError, match="workers"):
        play_runs([Cell("grid", 500)], 1, None, 0, lambda steps, total: steps)
