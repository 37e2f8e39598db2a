"""The comparison's rows and verdicts by hand, what is saved, and the command."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from semd.cli import app
from semd.errors import StorageError
from semd.evaluation.baselines.comparison import Comparison, compare
from semd.evaluation.baselines.comparison_report import as_json, as_text, notes, save
from semd.evaluation.baselines.comparison_table import ComparisonRow, summarise, verdict
from semd.evaluation.baselines.methods import ComparedMethod
from semd.evaluation.baselines.outcome import BaselineOutcome
from semd.evaluation.baselines.scenario import SCENARIOS
from semd.evaluation.control.table_one import wilson_interval

GOOD = BaselineOutcome(
    frames=4,
    failure=None,
    true_score=9.5,
    start_true_score=3.0,
    wd_error_u=0.2,
    brightness_contrast_ok=True,
    dose=3200.0,
)


def row(method: str, frames: float, sharp: float) -> ComparisonRow:
    outcomes = [replace(GOOD, frames=frames, true_score=9.5 if n < sharp * 10 else 5.0) for n in range(10)]
    return summarise("low-noise", "all", 0, method, outcomes, focus_only=False)


def test_a_row_by_hand() -> None:
    outcomes = [
        GOOD,
        replace(GOOD, frames=6, wd_error_u=0.6, brightness_contrast_ok=False, dose=4800.0),
        replace(GOOD, frames=50, failure="over the budget", wd_error_u=9.0, true_score=2.0, dose=40000.0),
        replace(GOOD, frames=2, failure="gave up", wd_error_u=0.4, dose=1600.0),
    ]
    made = summarise("drift", "grid", 500, "brent", outcomes, focus_only=True)
    assert (made.scenario, made.sample, made.magnification, made.method, made.runs) == (
        "drift",
        "grid",
        500,
        "brent",
        4,
    )
    assert (made.median_frames, made.p95_frames) == (5.0, pytest.approx(43.4))
    assert (made.sharp, made.sharp_and_exposed) == (0.5, 0.25)
    assert (made.sharp_low, made.sharp_high) == wilson_interval(0.5, 4)
    assert made.median_wd_error_u == pytest.approx(0.5)
    assert made.worse_than_start == 1
    assert made.median_dose == 4000.0
    assert made.failures == {"over the budget": 1, "gave up": 1}


def test_the_verdict_says_where_ours_does_not_need_fewer_frames_at_equal_or_higher_success() -> None:
    ours = row("semd", 4, 0.9)
    beaten = [row("slow", 5, 0.9), row("worse", 22, 0.2)]
    assert verdict([*beaten, ours]) == "semd needs fewer frames than every other method at equal or higher success"
    said = verdict([*beaten, row("quick", 2, 0.1), row("level", 4, 0.9), row("sure", 34, 1.0), ours]) or ""
    assert "slow" not in said
    assert "worse (" not in said
    assert "quick (fewer frames at lower success)" in said
    assert "level (as many frames at equal success)" in said
    assert "sure (more frames at higher success)" in said
    assert verdict(beaten) is None
    assert verdict([ours]) is None


class Still:
    """Does nothing, and says so."""

    def focus(self, harness) -> bool:
        harness.scan()
        return False


METHODS = [
    ComparedMethod("still", focus_only=True, autofocus=Still()),
    ComparedMethod("gone", True, None, "gone is not installed"),
]


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare(METHODS, SCENARIOS[:2], [("tinball", 1000), ("grid", 1000)], 2, lambda starts: starts)


def test_every_method_runs_from_every_start(comparison: Comparison) -> None:
    assert len(comparison.runs) == 2 * 2 * 2
    assert len({run.start for run in comparison.runs}) == 8
    assert not comparison.interrupted
    again = compare(METHODS, SCENARIOS[:2], [("tinball", 1000), ("grid", 1000)], 2, lambda starts: starts)
    assert again.runs == comparison.runs


def test_ctrl_c_keeps_the_starts_that_are_done() -> None:
    def cut(starts):
        yield from starts[:3]
        raise KeyboardInterrupt

    found = compare(METHODS, SCENARIOS, [("tinball", 1000)], 5, cut)
    assert found.interrupted
    assert len(found.runs) == 3
    assert any("Interrupted" in note for note in notes(found))


def test_the_table_names_who_is_missing_who_fails_and_who_does_focus_only(comparison: Comparison) -> None:
    text = as_text(comparison)
    assert text.count("gone is not installed") == 2
    assert text.count("still *") == 2
    assert "Failures of still, high-noise: 4 x gave up." in text
    assert "brightness and contrast start, and stay, at the field's optimum" in text
    assert as_json(comparison)["not_run"] == {"gone": "gone is not installed"}


def test_saved_files_hold_pooled_rows_cells_and_runs(comparison: Comparison, tmp_path) -> None:
    save(comparison, tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    with (folder / "peers.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(r["scenario"], r["sample"], r["runs"]) for r in rows[:3]] == [
        ("low-noise", "all", "4"),
        ("low-noise", "tinball", "2"),
        ("low-noise", "grid", "2"),
    ]
    with (folder / "runs.csv").open(encoding="utf-8") as file:
        runs = list(csv.DictReader(file))
    assert len(runs) == 8
    assert {run["failure"] for run in runs} == {"gave up"}
    assert json.loads((folder / "peers.json").read_text())["rows"][0]["sharp"] == 0.0
    assert "still" in (folder / "peers.txt").read_text()
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot create"):
        save(comparison, tmp_path / "file")


def test_the_command_prints_one_json_and_saves(tmp_path) -> None:
    words = "evaluate peers --peers brent,conventional-gradient --samples tinball --magnifications 1000 --episodes 1"
    result = CliRunner().invoke(app, [*words.split(), "--json", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert {(r["scenario"], r["method"]) for r in found["rows"]} == {
        (setting.key, method) for setting in SCENARIOS for method in ("brent", "conventional-gradient")
    }
    assert (tmp_path / "peers.txt").exists()


def test_the_command_refuses_an_unknown_method() -> None:
    result = CliRunner().invoke(app, ["evaluate", "peers", "--peers", "gauss"])
    assert result.exit_code != 0
    assert "gauss" in str(result.exception)
