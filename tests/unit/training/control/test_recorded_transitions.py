"""Recorded frames to transitions: every number by hand, every reason not to learn from a frame."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from harness.records import AIM, GOOD, RULES, WEIGHTS, Line, answered, seen, three_frames, write_ledger
from rich.console import Console

from semd.decision.run import Reason
from semd.domain.axes import Axis
from semd.errors import DatasetError, LedgerError
from semd.protocol.action import Status
from semd.training.control.recorded_transitions import Records, Skip, read_records, transitions_of

# Score / 10, AVG, GRD, VAR; WD in 5..15, brightness and contrast in 0..100 as -1..1; steps over 2 mm, 20, 20.
ROW_0 = [0.4, 0.0, 0.2, 0.4, -0.4, -0.2, 0.0, 0.0, 0.0, 0.0]
ROW_1 = [0.6, 0.0, 0.2, 0.4, -0.2, 0.0, 0.0, 0.5, 0.5, 0.0]
ROW_2 = [0.95, 0.0, 0.2, 0.4, -0.1, 0.0, 0.0, 0.25, 0.0, 0.0]
QUIET = Console(quiet=True)


def read(lines: list[Line]) -> Records:
    records = transitions_of(lines, RULES, WEIGHTS, AIM)
    assert records.frames == len(lines) == len(records.experience) + sum(records.skipped.values())
    return records


def test_a_run_of_three_frames_by_hand() -> None:
    records = read(three_frames())
    found = records.experience
    np.testing.assert_allclose(found.states, [ROW_0 + ROW_0, ROW_0 + ROW_1], atol=1e-7)
    np.testing.assert_allclose(found.next_states, [ROW_0 + ROW_1, ROW_1 + ROW_2], atol=1e-7)
    # Half of the window is 5 mm and 50: 1 mm is 0.2, 10 is 0.2, 0.5 mm is 0.1.
    np.testing.assert_allclose(found.actions, [[0.2, 0.2, 0.0], [0.1, 0.0, 0.0]], atol=1e-7)
    # (6): score + 0.5 * 0.2 + 1 * 0.4
    np.testing.assert_allclose(found.rewards, [6.5, 10.0])
    assert found.terminated.tolist() == [False, True]
    assert (found.states.dtype, found.actions.dtype) == (np.float32, np.float32)
    assert records.skipped == {Skip.ENDED: 1}
    assert records.summary() == {"frames": 3, "transitions": 2, "passed": 1, "skipped": {"ended": 1}}


def test_the_action_is_what_happened_not_what_was_asked() -> None:
    lines = three_frames()
    asked = {Axis.WD: 8.9995, Axis.BRIGHTNESS: 50.3, Axis.CONTRAST: 49.9}
    lines[0] = answered(seen(8.0, 40.0, 50.0, 4.0), Status.ADJUST, 0, targets=asked)
    np.testing.assert_allclose(read(lines).experience.actions[0], [0.2, 0.2, 0.0], atol=1e-7)


def test_the_reward_asks_for_the_exposure_of_the_training() -> None:
    # 95 of at least 100 grey values of contrast: a defect of 0.05, at a weight of 2.
    lines = three_frames()
    lines[2] = answered(seen(9.5, 50.0, 50.0, 9.5, replace(GOOD, contrast=95.0)), Status.DONE, 2)
    found = transitions_of(lines, RULES, WEIGHTS, replace(AIM, min_contrast=100.0))
    assert found.experience.rewards[1] == pytest.approx(9.9)


def test_giving_up_is_truncation() -> None:
    lines = [*three_frames()[:2], answered(seen(9.5, 50.0, 50.0, 5.0), Status.GIVE_UP, 2, reason=Reason.STEPS_SPENT)]
    records = read(lines)
    assert records.experience.terminated.tolist() == [False, False]
    assert records.skipped == {Skip.ENDED: 1}


def test_a_frame_that_is_held_stays_in_the_state_and_moves_nothing() -> None:
    lines = three_frames()[:1]
    lines += [
        answered(seen(9.0, 50.0, 50.0, 6.0), Status.HOLD, 1, reason=Reason.DOUBTFUL),
        answered(seen(9.0, 50.0, 50.0, 9.5), Status.DONE, 2, reason=Reason.PASSED),
    ]
    records = read(lines)
    assert len(records.experience) == 1
    at_rest = [0.95, 0.0, 0.2, 0.4, -0.2, 0.0, 0.0, 0.0, 0.0, 0.0]
    np.testing.assert_allclose(records.experience.next_states, [ROW_1 + at_rest], atol=1e-7)
    np.testing.assert_allclose(records.experience.actions, [[0.2, 0.2, 0.0]], atol=1e-7)
    assert records.experience.terminated.tolist() == [True]
    assert records.skipped == {Skip.HOLD: 1, Skip.ENDED: 1}


def test_a_damaged_picture_is_held_and_leaves_no_trace() -> None:
    first, second, third = three_frames()
    held = answered(seen(9.0, 50.0, 50.0, None), Status.HOLD, 1, reason=Reason.IMAGE_DAMAGED)
    second = answered(seen(9.0, 50.0, 50.0, 6.0), Status.ADJUST, 2)
    third = answered(seen(9.5, 50.0, 50.0, 9.5), Status.DONE, 3)
    records, whole = read([first, held, second, third]), read(three_frames())
    assert np.array_equal(records.experience.next_states, whole.experience.next_states)
    assert records.skipped == {Skip.HOLD: 1, Skip.ENDED: 1}


def test_a_run_that_ends_on_a_damaged_picture_has_no_last_state() -> None:
    lines = three_frames()[:1]
    lines.append(answered(seen(9.0, 50.0, 50.0, None), Status.GIVE_UP, 1, reason=Reason.HOLDS_SPENT))
    assert read(lines).skipped == {Skip.UNMEASURED: 1, Skip.ENDED: 1}


def test_the_operator_leaves_no_transition() -> None:
    lines = three_frames()[:2]
    lines += [
        answered(seen(12.0, 50.0, 50.0, 2.0), Status.HOLD, 2, reason=Reason.READ_BACK, restarts_next=True),
        *three_frames(),
    ]
    records = read(lines)
    assert len(records.experience) == 3
    # The new run begins at rest.
    np.testing.assert_allclose(records.experience.states[1], ROW_0 + ROW_0, atol=1e-7)
    assert records.skipped == {Skip.TAKEN_OVER: 1, Skip.HOLD: 1, Skip.ENDED: 1}


def test_a_run_that_breaks_off_ends_without_a_terminal() -> None:
    records = read([*three_frames()[:2], *three_frames()[:2]])
    assert records.experience.terminated.tolist() == [False, False]
    assert records.skipped == {Skip.RUN_CUT: 2}


def test_a_step_beyond_the_bound_is_no_action_of_the_actors() -> None:
    # The bound is 0.4 of 5 mm, 2 mm; the read-back tolerance 2 um is rounded off, 10 um are not.
    def moved(to_mm: float) -> Records:
        return read(
            [
                answered(seen(8.0, 50.0, 50.0, 4.0), Status.ADJUST, 0, reason=Reason.RETURNING),
                answered(seen(to_mm, 50.0, 50.0, 9.5), Status.DONE, 1),
            ]
        )

    np.testing.assert_array_equal(moved(10.0015).experience.actions, np.array([[0.4, 0.0, 0.0]], np.float32))
    assert moved(10.01).skipped == {Skip.BEYOND_BOUND: 1, Skip.ENDED: 1}


def test_an_axis_that_is_not_controlled_is_at_rest() -> None:
    only_wd = replace(RULES, axes=(Axis.WD,))
    lines = [
        answered(seen(8.0, 40.0, 50.0, 4.0), Status.ADJUST, 0, targets={Axis.WD: 9.0}),
        answered(seen(9.0, 90.0, 50.0, 9.5), Status.DONE, 1, targets={Axis.WD: 9.0}),
    ]
    found = transitions_of(lines, only_wd, WEIGHTS, AIM).experience
    np.testing.assert_allclose(found.actions, [[0.2, 0.0, 0.0]], atol=1e-7)
    assert transitions_of(lines, RULES, WEIGHTS, AIM).skipped == {Skip.FOREIGN: 2}


def test_a_calibration_is_no_run() -> None:
    lines = [
        *three_frames()[:1],
        answered(seen(9.0, 50.0, 50.0, 6.0), Status.ADJUST, 0, reason=Reason.CALIBRATING, targets={Axis.WD: 9.5}),
        answered(seen(9.5, 50.0, 50.0, 6.0), Status.DONE, 1, reason=Reason.CALIBRATING, restarts_next=True),
        *three_frames(),
    ]
    records = read(lines)
    assert len(records.experience) == 2
    assert records.skipped == {Skip.CALIBRATING: 2, Skip.RUN_CUT: 1, Skip.ENDED: 1}


def changed(line: Line, **numbers: object) -> Line:
    """The line with numbers of its measurement replaced."""
    observation = json.loads(line[0])
    for name, number in numbers.items():
        part = observation["measurement"]["features"] if name in ("pixels", "var") else observation["measurement"]
        part[name] = number
    return json.dumps(observation), line[1]


DAMAGED = {
    "half a line": lambda line: (line[0][:40], line[1]),
    "no text": lambda line: (b"\xff\xfe", line[1]),
    "nothing": lambda line: (None, line[1]),
    "another program's": lambda line: ('{"a": 1}', line[1]),
    "the answer half": lambda line: (line[0], line[1][:30]),
    "not finite": lambda line: changed(line, score=float("nan")),
    "no pixels": lambda line: changed(line, pixels=0),
    "negative variance": lambda line: changed(line, var=-1.0),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_line_is_counted_and_its_run_left(kind: str) -> None:
    first, second, third = three_frames()
    whole = read(three_frames()).experience
    records = read([first, DAMAGED[kind](second), third, *three_frames()])
    # Without the second frame neither the first one's end nor the third one's state is known.
    assert records.skipped == {Skip.DAMAGED: 1, Skip.HISTORY_LOST: 2, Skip.ENDED: 1}
    assert np.array_equal(records.experience.states, whole.states)


def test_a_line_that_is_gone_is_noticed() -> None:
    first, _, third = three_frames()
    assert read([first, third]).skipped == {Skip.HISTORY_LOST: 2}
    assert read([third]).skipped == {Skip.HISTORY_LOST: 1}


def test_frames_outside_the_limits_are_another_instruments() -> None:
    lines = [answered(seen(20.0, 50.0, 50.0, 4.0), Status.ADJUST, 0), *three_frames()]
    assert read(lines).skipped == {Skip.FOREIGN: 1, Skip.ENDED: 1}


def test_records_are_read_from_the_ledger(tmp_path: Path) -> None:
    write_ledger(tmp_path, [*three_frames(), *three_frames()])
    with sqlite3.connect(tmp_path / "ledger.sqlite") as database:
        # Bytes that are no text, as a bad sector leaves them.
        database.execute("UPDATE frames SET observation_json = CAST(x'7bff22' AS TEXT) WHERE seq = 4")
    database.close()
    records = read_records(tmp_path, RULES, WEIGHTS, AIM, QUIET)
    assert np.array_equal(records.experience.states, read(three_frames()).experience.states)
    assert records.skipped == {Skip.ENDED: 1, Skip.DAMAGED: 1, Skip.HISTORY_LOST: 2}


def test_records_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no such file.*\[state\]"):
        read_records(tmp_path, RULES, WEIGHTS, AIM, QUIET)
    write_ledger(tmp_path / "one", three_frames()[:1])
    with pytest.raises(DatasetError, match=r"1 answered frames \(run-cut 1\)"):
        read_records(tmp_path / "one", RULES, WEIGHTS, AIM, QUIET)
    (tmp_path / "ledger.sqlite").write_bytes(b"no database at all, " * 100)
    with pytest.raises(LedgerError):
        read_records(tmp_path, RULES, WEIGHTS, AIM, QUIET)
