"""Recorded runs come out as they did: actions byte for byte, ledger, quarantine; see `run_player` for when to renew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_player import (
    DATA,
    EVERY_REASON,
    EVERY_STATUS,
    Recording,
    StoredSource,
    check_measurements,
    load_recordings,
    play,
    shipped_actor,
    shipped_pipeline,
)

RUNS = [run for group in ("searches", "troubles") for run in load_recordings(group)]
WITH_IMAGES = load_recordings("with_images")
SCORE_TOLERANCE = 0.01
FEWEST_RUNS = 60
LARGEST_DATA_BYTES, LARGEST_IMAGES_BYTES = 1_500_000, 3_200_000


def name_of(run: Recording) -> str:
    return str(run["name"])


def close(found: Any, expected: Any) -> bool:
    """The same keys, words and order; numbers of the ledger to nine digits, for the fit's last ones may differ."""
    if isinstance(expected, float) and isinstance(found, float):
        return found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(close(found[key], value) for key, value in expected.items())
    return type(found) is type(expected) and bool(found == expected)


@pytest.mark.parametrize("run", RUNS, ids=name_of)
def test_run_comes_out_as_recorded(run: Recording, tmp_path: Path) -> None:
    source = StoredSource(run)
    outcome = play(run, tmp_path, source)
    check_measurements(run, outcome)
    expected = run["outcome"]

    assert source.unanswered == []
    told = [(row["stem"], row["code"], row.get("decision", {}).get("reason")) for row in outcome["rows"]]
    assert told == [(row["stem"], row["code"], row.get("decision", {}).get("reason")) for row in expected["rows"]]
    assert dict(outcome["actions"]) == dict(expected["actions"])
    for found, row in zip(outcome["rows"], expected["rows"], strict=True):
        assert close(found, row), (found, row)
    for key in ("archive", "quarantine", "codes"):
        assert outcome[key] == expected[key]


@pytest.mark.parametrize("run", WITH_IMAGES, ids=name_of)
def test_run_with_images_comes_out_as_recorded(run: Recording, tmp_path: Path) -> None:
    """Targets may differ by twice what scores within 0.01 were found to move them; see `target_tolerances`."""
    outcome = play(run, tmp_path, shipped_pipeline(run), DATA / "images" / run["name"])
    rows = zip(outcome["rows"], run["outcome"]["rows"], run["target_tolerances"], strict=True)
    for found, row, tolerances in rows:
        assert found["measurement"]["score"] == pytest.approx(row["measurement"]["score"], abs=SCORE_TOLERANCE)
        assert found["measurement"]["doubts"] == row["measurement"]["doubts"]
        assert found["parameters"] == row["parameters"]
        decided, expected = found["decision"], row["decision"]
        assert (decided["status"], decided["reason"]) == (expected["status"], expected["reason"])
        assert set(decided["targets"]) == set(expected["targets"])
        for axis, tolerance in tolerances.items():
            assert decided["targets"][axis] == pytest.approx(expected["targets"][axis], abs=tolerance), axis
    assert len(outcome["actions"]) == len(run["frames"])


def test_shipped_actor_gives_the_stored_steps(tmp_path: Path) -> None:
    actor, asked = shipped_actor(), 0
    for number, run in enumerate(RUNS):
        source = StoredSource(run)
        play(run, tmp_path / str(number), source)
        for state, steps in source.asked:
            # Two frames of a hand-made sweep were answered without the actor.
            if np.any(steps):
                assert actor(state) == pytest.approx(steps, abs=1e-4), run["name"]
                asked += 1
    assert asked > 200


def test_recordings_hold_every_status_and_reason() -> None:
    runs = [*RUNS, *WITH_IMAGES]
    rows = [row for run in runs for row in run["outcome"]["rows"]]
    decisions = [row["decision"] for row in rows if "decision" in row]
    assert len(runs) >= FEWEST_RUNS
    assert len({run["name"] for run in runs}) == len(runs)
    assert {each["status"] for each in decisions} == EVERY_STATUS
    assert {each["reason"] for each in decisions} == EVERY_REASON
    assert {run["layout"] for run in runs} == {"series", "single"}
    assert {run["dialect"] for run in runs} == {"coxem", "hitachi", "jeol", "tescan", "zeiss", "fei"}
    axes = {json.dumps(run["config"].get("control", {}).get("axes")) for run in runs}
    assert axes == {"null", '["wd"]'}  # link `text` moves all three, `aisem` the working distance alone
    doubts = {doubt for run in RUNS for frame in run["frames"] for doubt in frame["measurement"]["doubts"]}
    assert doubts == {"blank", "saturated", "striped", "unfamiliar"}
    assert len({row["code"] for row in rows if row["code"]}) >= 5
    assert len(WITH_IMAGES) == 3


def test_recordings_stay_small() -> None:
    assert sum(path.stat().st_size for path in DATA.glob("*.jsonl")) < LARGEST_DATA_BYTES
    assert sum(path.stat().st_size for path in (DATA / "images").rglob("*.jpg")) < LARGEST_IMAGES_BYTES
