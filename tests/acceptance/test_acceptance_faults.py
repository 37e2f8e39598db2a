"""SIGKILL, restarts and broken links at awkward moments: nothing is lost, doubled or resent without cause."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from isem_bench import Bench
from isem_manners import MANNERS
from isem_server import LinkFaults

pytestmark = pytest.mark.slow


def test_daemon_killed_while_writing_after_writing_and_after_answering(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench(discs_off=14.0, manners=[MANNERS["slow-writer"]], max_frames=6)
    sem = bench.sem
    second = sem.watch_dir / "frame-000002.jpeg"
    bench.start("run", "middle-client")
    sem.scan()
    bench.wait_for("the second frame is half written", second.exists, keep_busy=True)
    bench.kill("run")
    assert len(sem.frames) == 1
    bench.start("run")
    bench.wait_for("the third frame is just written", bench.frames_written(3), keep_busy=True)
    bench.kill("run")
    bench.start("run")
    known = len(bench.audit.actions())
    bench.wait_for("a new answer just appeared", bench.actions_filed(known + 1), keep_busy=True)
    bench.kill("run")
    bench.start("run")
    bench.wait_for("six frames", bench.frames_written(6), keep_busy=True)
    bench.settle()


def test_middle_client_killed_before_the_answer_and_while_idle(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(discs_off=-14.0, faults=LinkFaults(answer_delay_s=0.4), max_frames=5)
    link = bench.sem.text_link
    bench.start("run", "middle-client")
    bench.sem.scan()
    bench.wait_for("a message that waits for its answer", lambda: len(link.applied) >= 1)
    assert link.acknowledged == set()
    bench.kill("middle-client")
    bench.start("middle-client")
    bench.wait_for("two acknowledged", lambda: len(link.acknowledged) >= 2, keep_busy=True)
    bench.kill("middle-client")
    bench.start("middle-client")
    bench.wait_for("five frames", bench.frames_written(5), keep_busy=True)
    bench.settle()
    assert link.order.receipts[link.applied[0].action_id] >= 2


def test_link_dropped_at_every_point_busy_and_refused(make_bench: Callable[..., Bench]) -> None:
    faults = LinkFaults(
        lose=frozenset({1}),
        drop_before_answer=frozenset({2}),
        drop_mid_answer=frozenset({3}),
        drop_after_answer=frozenset({4}),
        busy={5: 2},
        refuse=frozenset({6}),
    )
    bench = make_bench(discs_off=14.0, faults=faults, max_frames=8, rescan_after_s=6.0)
    link = bench.sem.text_link
    bench.start("run", "middle-client")
    bench.sem.scan()
    bench.wait_for("eight frames", bench.frames_written(8), timeout_s=38.0, keep_busy=True)
    bench.settle()
    assert len(link.refused) == 1
    # Frames that were asked for: the first, and those after an ADJUST or HOLD; a resend asks for none.
    assert len(link.applied) == 7
    assert link.connection_count() >= 5


def test_sem_program_restarts(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(discs_off=12.0, max_frames=5)
    bench.sem.server.close()
    bench.start("run", "middle-client")
    bench.sem.scan()
    bench.wait_for("an answer that nobody listens for", bench.actions_filed(1))
    bench.sem.server.listen()
    bench.wait_for("three frames", bench.frames_written(3), keep_busy=True)
    bench.sem.server.close()
    # A message that was under way when the SEM program ended may come once more.
    bench.audit.kills += 1
    bench.sem.server.listen()
    bench.wait_for("five frames", bench.frames_written(5), keep_busy=True)
    bench.settle()


@pytest.mark.parametrize("scoring_delay_s", [0.0, 0.2])
def test_aisem_never_resends_after_a_lost_reply_or_a_kill(
    make_bench: Callable[..., Bench], scoring_delay_s: float
) -> None:
    bench = make_bench(
        scoring_delay_s=scoring_delay_s,
        discs_off=14.0,
        layout="single",
        dialect="aisem",
        axes=("wd",),
        drop_before_reply=frozenset({1}),
        max_frames=6,
        rescan_after_s=6.0,
    )
    link = bench.sem.aisem_link
    bench.start("run", "middle-client")
    bench.sem.scan()
    bench.wait_for("a second command after the lost reply", lambda: len(link.commands) >= 2, timeout_s=38.0)
    bench.kill("middle-client")
    bench.start("middle-client")
    bench.wait_for("five frames", bench.frames_written(5), timeout_s=38.0)
    bench.settle()
