"""A NanoStation that saves its pairs in every wrong way, before a real daemon: each frame ends once, as it must."""

from __future__ import annotations

import random
import threading
from collections import Counter
from pathlib import Path

import pytest
from harness.daemon_process import TEXT, DaemonUnderTest, make_daemon, picture

from semd.protocol.action import Status
from semd.protocol.pairing import Layout
from semd.simulator.fault_plan import FaultPlan
from semd.simulator.faulty_writer import ANSWERED_FAULTS, EXPECTED_ENDS, FaultyWriter, WriterFault

# Far beyond the writer's own pauses, also where the tests get little of a core.
SETTLE_S = 1.6


def writer_of(daemon: DaemonUnderTest, plan: FaultPlan[WriterFault]) -> FaultyWriter:
    return FaultyWriter(daemon.watch, daemon.config.watch.layout, plan=plan)


def write(writer: FaultyWriter, number: int) -> str:
    stem = writer.write(number, picture(number), TEXT.format(wd=9500, sample="a"))
    assert stem is not None
    return stem


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("fault", WriterFault)
def test_each_fault_ends_as_it_must_and_the_next_frame_is_answered(
    tmp_path: Path, layout: Layout, fault: WriterFault
) -> None:
    daemon = make_daemon(tmp_path, layout, settle_s=SETTLE_S)
    writer = writer_of(daemon, FaultPlan({1: fault}))
    end = EXPECTED_ENDS[fault]
    with daemon.running():
        stem = write(writer, 0)
        daemon.until(lambda: bool(daemon.actions() if end == "answered" else daemon.reasons()))
        write(writer, 1)
        daemon.until(lambda: len(daemon.actions()) == (1 if end == "quarantined" else 2))
    statuses = [action.status for action in daemon.actions()]
    assert (
        statuses
        == {
            "answered": [Status.ADJUST, Status.ADJUST],
            "held": [Status.HOLD, Status.ADJUST],
            "quarantined": [Status.ADJUST],
        }[end]
    )
    assert len(daemon.reasons()) == (0 if end == "answered" else 1)
    if layout is Layout.SERIES:
        assert Counter(action.frame for action in daemon.actions())[stem] == (0 if end == "quarantined" else 1)
    assert writer.ends == {0: end, 1: "answered"}
    if layout is Layout.SINGLE:
        assert list(daemon.watch.iterdir()) == []


@pytest.mark.parametrize("layout", Layout)
def test_a_writer_at_its_worst_for_a_while(tmp_path: Path, layout: Layout) -> None:
    daemon = make_daemon(tmp_path, layout, settle_s=SETTLE_S)
    kinds = [fault for fault in ANSWERED_FAULTS if EXPECTED_ENDS[fault] == "answered"]
    writer = writer_of(daemon, FaultPlan(share=0.8, kinds=kinds, rng=random.Random(3)))
    with daemon.running():
        thread = threading.Thread(target=lambda: [write(writer, number) for number in range(12)])
        thread.start()
        daemon.until(lambda: len(daemon.actions()) == 12)
        thread.join()
    assert [action.seq for action in daemon.actions()] == list(range(1, 13))
    assert daemon.reasons() == {}
    assert len(writer.plan.happened) >= 4
    if layout is Layout.SERIES:
        assert {action.frame for action in daemon.actions()} == {f"frame-{number:06d}" for number in range(12)}
