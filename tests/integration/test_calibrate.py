"""Calibrating a virtual SEM over the real protocol: sweep, labels, fine-tuning, and nothing replaced in vain."""

from __future__ import annotations

import csv
import signal
from pathlib import Path

import numpy as np
import pytest
from harness.calibration import good_microscope, running

from semd.datasets.dataset import read_dataset
from semd.domain.axes import AXES
from semd.model_store import load_model
from semd.protocol.action import Status, decode_action
from semd.protocol.pairing import Layout
from semd.service.storage import InstanceLock


def test_a_sweep_teaches_and_ends_in_focus(tmp_path: Path) -> None:
    microscope = good_microscope(start_u=-4.3)
    with running(tmp_path, microscope) as harness:
        status, result, told = harness.finished(harness.calibrate())
    unit_mm = microscope.wd_unit_mm
    assert abs(float(str(result["focus_wd_mm"])) - microscope.focus_wd_mm) < 0.4 * unit_mm, told
    assert microscope.wd_mm == pytest.approx(float(str(result["focus_wd_mm"])), abs=2e-4)
    assert status == (0 if result["stored"] else 1)
    assert result["stored"] is True, told
    assert float(str(result["sweep_rmse_after"])) < float(str(result["sweep_rmse_before"]))

    frames = read_dataset(tmp_path / "state" / "sweeps")
    assert len(frames) == result["frames"] == int(str(result["learned"])) + int(str(result["held_out"]))
    with (tmp_path / "state" / "sweeps" / "table.csv").open(newline="") as file:
        wds = np.array([float(row["wd_mm"]) for row in csv.DictReader(file)])
    # The simulator knows what an expert would say; the sweep must have found nearly the same by itself.
    truth = {round(taken.scan.wd_mm, 4): taken.scan.truth.true_score for taken in harness.station.taken}
    errors = frames.score - np.array([truth[round(wd, 4)] for wd in wds])
    assert float(np.sqrt((errors**2).mean())) < 0.6

    better = tmp_path / "better"
    assert load_model(better, "actor").data == load_model(tmp_path / "models", "actor").data
    assert load_model(better, "scorer").data != load_model(tmp_path / "models", "scorer").data
    # Every frame was answered once, in its order, and the last answer is that nothing is left to do.
    paths = sorted((tmp_path / "actions").rglob("action-*.txt"), key=lambda path: path.name)
    answers = [decode_action(path.read_bytes()) for path in paths]
    assert [answer.frame for answer in answers] == [taken.stem for taken in harness.station.taken]
    assert [answer.status for answer in answers] == [Status.ADJUST] * (len(answers) - 1) + [Status.DONE]
    # Brightness and contrast stay as they were.
    assert len({tuple(answer.targets[axis] for axis in AXES[1:]) for answer in answers}) == 1


def test_coxems_own_link_and_one_pair_that_is_overwritten(tmp_path: Path) -> None:
    microscope = good_microscope(start_u=3.1, seed=1)
    with running(tmp_path, microscope, dialect="aisem", layout=Layout.SINGLE) as harness:
        _, result, told = harness.finished(harness.calibrate())
    assert "focus_wd_mm" in result, told
    assert abs(microscope.wd_mm - microscope.focus_wd_mm) < 0.4 * microscope.wd_unit_mm


def test_a_featureless_field_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    microscope = good_microscope(start_u=2.0)
    microscope.field.emission[:] = microscope.field.emission.mean()
    start_mm = microscope.wd_mm
    with running(tmp_path, microscope) as harness:
        status, result, told = harness.finished(harness.calibrate())
    assert status == 1
    assert result["error"] == "SEMD-K01", told
    assert microscope.wd_mm == pytest.approx(start_mm, abs=1e-4)
    assert not (tmp_path / "better").exists()
    assert not (tmp_path / "state" / "sweeps").exists()


def test_ctrl_c_goes_back_to_the_start(tmp_path: Path) -> None:
    microscope = good_microscope(start_u=2.0)
    start_mm = microscope.wd_mm
    with running(tmp_path, microscope) as harness:
        process = harness.calibrate()
        assert process.stdout is not None
        while not process.stdout.readline().startswith("frame at"):
            pass
        process.send_signal(signal.SIGINT)
        status, result, _ = harness.finished(process)
    assert status == 1
    assert result["error"] == "interrupted"
    assert microscope.wd_mm == pytest.approx(start_mm, abs=1e-4)
    assert len(harness.station.taken) < 15


def test_a_knob_that_does_not_obey_is_an_error(tmp_path: Path) -> None:
    microscope = good_microscope(start_u=1.0)
    microscope.limits = type(microscope.limits)(wd_mm=(microscope.wd_mm, 20.0))
    with running(tmp_path, microscope) as harness:
        status, result, _ = harness.finished(harness.calibrate())
    assert status == 1
    assert "read back" in str(result["message"])


def test_beside_a_running_daemon_it_does_not_start(tmp_path: Path) -> None:
    microscope = good_microscope(start_u=1.0)
    with running(tmp_path, microscope) as harness, InstanceLock(tmp_path / "state" / "daemon.lock"):
        process = harness.calibrate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "another process" in err


def test_without_the_middle_client_it_says_what_is_missing(tmp_path: Path) -> None:
    with running(tmp_path, good_microscope(start_u=1.0), with_client=False) as harness:
        status, result, _ = harness.finished(harness.calibrate())
    assert status == 1
    assert "middle-client" in str(result["message"])
    assert "was last sent to" in str(result["message"])


def test_frames_that_nobody_answered_are_in_the_way(tmp_path: Path) -> None:
    with running(tmp_path, good_microscope(start_u=1.0), with_client=False) as harness:
        # Not with the present knobs: answering it would move the microscope to where it once stood.
        harness.station.writer.write(
            77, harness.microscope.scan().image, "MAG=2000\nWD=9000\nBRIGHTNESS=1\nCONTRAST=1\n"
        )
        status, result, _ = harness.finished(harness.calibrate())
    assert status == 1
    assert "unanswered" in str(result["message"])
    assert not list((tmp_path / "actions").rglob("action-*.txt"))
