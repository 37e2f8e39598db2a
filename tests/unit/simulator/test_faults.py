"""Fault plans follow their schedule, and every fault has a documented outcome."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from semd.errors import ConfigError
from semd.simulator.fault_plan import FaultPlan
from semd.simulator.faulty_link import EXPECTED_EVENTS, RECOVERED_FAULTS, LinkFault
from semd.simulator.faulty_writer import ANSWERED_FAULTS, EXPECTED_ENDS, FaultyWriter, WriterFault
from semd.simulator.frame_writer import ImageFormat
from semd.simulator.serve import SimulateSpec


def test_a_plan_gives_what_is_listed_and_nothing_else() -> None:
    plan = FaultPlan({2: "a", 4: "b"})
    assert [plan.next() for _ in range(5)] == [None, "a", None, "b", None]
    assert plan.happened == {"a": 1, "b": 1}


def test_the_same_seed_gives_the_same_faults_in_the_share_that_was_asked_for() -> None:
    one, again, other = (FaultPlan(share=0.3, kinds=("a", "b"), rng=random.Random(seed)) for seed in (1, 1, 2))
    drawn = [plan.next() for plan in [one] * 2000]
    assert drawn == [again.next() for _ in range(2000)]
    assert drawn != [other.next() for _ in range(2000)]
    assert 0.25 < one.happened.total() / 2000 < 0.35
    assert min(one.happened.values()) > 200


def test_of_every_fault_it_is_known_how_it_ends() -> None:
    assert set(EXPECTED_EVENTS) == set(LinkFault)
    assert set(EXPECTED_ENDS) == set(WriterFault)
    assert LinkFault.NAK not in RECOVERED_FAULTS["text"]
    assert set(ANSWERED_FAULTS) == {fault for fault in WriterFault if EXPECTED_ENDS[fault] in ("answered", "held")}


def test_the_events_named_are_in_the_guide() -> None:
    guide = (Path(__file__).parents[3] / "deploy" / "OPERATIONS.md").read_text("utf-8")
    assert [event for events in EXPECTED_EVENTS.values() for event in events if f"`{event}`" not in guide] == []


@pytest.mark.parametrize("fault", [fault for fault in WriterFault if EXPECTED_ENDS[fault] == "answered"])
def test_what_must_be_answered_is_whole_in_the_end(tmp_path: Path, fault: WriterFault) -> None:
    writer = FaultyWriter(tmp_path, plan=FaultPlan({1: fault}), image_format=ImageFormat.PNG, sleep=lambda _: None)
    plain = FaultyWriter(tmp_path, image_format=ImageFormat.PNG)
    image = np.random.default_rng(1).integers(0, 255, (480, 640), dtype=np.uint8)
    assert writer.write(0, image, "MAG=2000\n") == "frame-000000"
    assert plain.write(1, image, "MAG=2000\n") == "frame-000001"
    for suffix in ("png", "txt"):
        data = (tmp_path / f"frame-000000.{suffix}").read_bytes()
        assert data == (tmp_path / f"frame-000001.{suffix}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 4  # nothing is left over


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_one(share: float) -> None:
    words = {"sample": "grid", "manner": "slow", "image_format": "jpg", "encoding": "utf-8"}
    with pytest.raises(ConfigError, match="between 0 and 1"):
        SimulateSpec.checked(magnification=2000.0, seed=0, pause_s=0.0, link_faults=share, **words)
