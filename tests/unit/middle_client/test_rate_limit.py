"""The rate limit: no minute holds more commands than the most, and what is over it waits."""

from __future__ import annotations

from pathlib import Path

from harness.middle_client import MiddleClientUnderTest, ack
from harness.outbox import make_action
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from semd.middle_client.abort import AbortFile
from semd.middle_client.clock import Clock
from semd.middle_client.gate import Gate, RateLimit
from semd.testing import FakeClock


@settings(deadline=None)
@given(
    most=st.integers(1, 6),
    pauses_s=st.lists(st.one_of(st.just(0.0), st.floats(0.0, 90.0), st.just(60.0)), max_size=60),
)
def test_no_minute_ever_holds_more_than_the_most(most: int, pauses_s: list[float]) -> None:
    clock = FakeClock()
    rate = RateLimit(most, Clock(clock.now, clock.monotonic_s))
    went_s: list[float] = []
    for pause_s in pauses_s:
        clock.seconds += pause_s
        expected = sum(clock.seconds - went < 60.0 for went in went_s) < most
        # Sums of floats may miss the edge by a rounding; there the limit may be the stricter.
        on_edge = any(abs(clock.seconds - went - 60.0) < 1e-6 for went in went_s)
        assert on_edge or (rate.wait_s() == 0.0) == expected
        if rate.wait_s() == 0.0:
            rate.count()
            went_s.append(clock.seconds)
    for start in went_s:
        assert sum(start <= went < start + 60.0 - 1e-6 for went in went_s) <= most


def test_over_the_limit_actions_wait_and_none_is_dropped(tmp_path: Path) -> None:
    client = MiddleClientUnderTest(tmp_path / "actions", most_per_minute=2)
    actions = [client.drop(make_action(seq, lifetime_s=600.0)) for seq in (1, 2, 3, 4)]
    with capture_logs() as logs:
        client.step()
        for action in actions[:2]:
            client.step(ack(action), after_s=1.0)
        assert len(client.link.sent) == 2
        client.step(after_s=57.9)
        assert len(client.link.sent) == 2
        client.step(after_s=0.2)
        assert len(client.link.sent) == 3
        client.step(ack(actions[2]), after_s=1.0)
        client.step(ack(actions[3]))
    assert client.places() == {"sent": [1, 2, 3, 4]}
    limited = [line for line in logs if line["event"] == "link.rate-limited"]
    assert [line["wait_s"] for line in limited] == [58.0]


def test_sending_again_after_busy_counts_too(tmp_path: Path) -> None:
    client = MiddleClientUnderTest(tmp_path / "actions", most_per_minute=2)
    action = client.drop(make_action(1, lifetime_s=600.0))
    client.step()
    for _ in range(3):
        client.step(f"BUSY {action.id}\n".encode())
        client.step(after_s=10.0)
    assert len(client.link.sent) == 2


def test_a_gate_that_is_shut_counts_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    rate = RateLimit(1, Clock(clock.now, clock.monotonic_s))
    gate = Gate(AbortFile(tmp_path), rate)
    AbortFile(tmp_path).raise_it(clock.now())
    assert not gate.passes()
    assert rate.wait_s() == 0.0
