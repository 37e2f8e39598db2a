"""The instrument profile: what goes beyond it is refused, whoever wrote it."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.middle_client import MiddleClientUnderTest
from harness.outbox import make_action
from structlog.testing import capture_logs

from semd.domain.axes import Axis
from semd.domain.limits import AxisLimits
from semd.protocol.action import Status
from semd.protocol.instrument_profile import COXEM_EM30, InstrumentProfile


@pytest.fixture
def client(tmp_path: Path) -> MiddleClientUnderTest:
    return MiddleClientUnderTest(tmp_path / "actions")


@pytest.mark.parametrize("dialect", ["text", "aisem", "dry"])
def test_what_goes_beyond_the_profile_is_refused_with_a_reason(tmp_path: Path, dialect: str) -> None:
    client = MiddleClientUnderTest(tmp_path / "actions", dialect, profile=COXEM_EM30)
    with capture_logs() as logs:
        client.drop(make_action(1, wd_mm=40.0001))
        client.step()
        client.drop(make_action(2, wd_mm=9.0, exposure={Axis.BRIGHTNESS: (-0.001, 0.0), Axis.CONTRAST: (101.0, 0.0)}))
        client.step()
    assert client.link.sent == []
    assert client.places() == {"refused": [1, 2]}
    reasons = [line["reason"] for line in logs if line["event"] == "action.refused"]
    assert "WD=40.0001 is beyond what the instrument profile 'coxem-em30' allows, 2 to 40" in reasons[0]
    assert "BRIGHTNESS" in reasons[1]
    assert "CONTRAST" in reasons[1]


@pytest.mark.parametrize("status", list(Status))
def test_the_bounds_themselves_pass(tmp_path: Path, status: Status) -> None:
    client = MiddleClientUnderTest(tmp_path / "actions", profile=COXEM_EM30)
    edges = {Axis.BRIGHTNESS: (0.0, 0.0), Axis.CONTRAST: (100.0, 0.0)}
    client.drop(make_action(1, wd_mm=2.0, exposure=edges, status=status))
    client.step()
    assert len(client.link.sent) == 1


def test_a_bound_of_more_decimals_than_an_action_carries_lets_the_clamped_value_pass() -> None:
    profile = InstrumentProfile("odd", {Axis.WD: AxisLimits(5.00004, 12.34567)})
    assert profile.faults({Axis.WD: 12.3457}) == []
    assert profile.faults({Axis.WD: 5.0}) == []
    assert len(profile.faults({Axis.WD: 12.3458})) == 1
    assert len(profile.faults({Axis.WD: float("nan")})) == 1


def test_what_was_sent_before_the_profile_was_narrowed_is_in_doubt_and_not_sent_again(
    client: MiddleClientUnderTest,
) -> None:
    client.drop(make_action(1, wd_mm=45.0))
    client.step()
    client.link.come_back()
    client.profile = COXEM_EM30
    client.start_process()
    client.step()
    assert len(client.link.sent) == 1
    assert client.places() == {"uncertain": [1]}
