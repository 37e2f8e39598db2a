"""SIGKILL, restarts and broken links at awkward moments: nothing is lost, doubled or resent without cause."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from isem_manners import MANNERS
from isem_server import LinkFaults
from isem_system import SystemUnderTest

pytestmark = pytest.mark.slow


def test_daemon_killed_while_writing_after_writing_and_after_answering(
    make_system: Callable[..., SystemUnderTest],
) -> None:
    system = make_system(discs_off=14.0, manners=[MANNERS["slow-writer"]], max_frames=6)
    sem = system.sem
    second = sem.watch_dir / "frame-000002.jpeg"
    system.start("run", "middle-client")
    sem.scan()
    system.wait_for("the second frame is half written", second.exists, keep_busy=True)
    system.kill("run")
    assert len(sem.frames) == 1
    system.start("run")
    system.wait_for("the third frame is just written", system.frames_written(3), keep_busy=True)
    system.kill("run")
    system.start("run")
    known = len(system.audit.actions())
    system.wait_for("a new answer just appeared", system.actions_filed(known + 1), keep_busy=True)
    system.kill("run")
    system.start("run")
    system.wait_for("six frames", system.frames_written(6), keep_busy=True)
    system.settle()


def test_middle_client_killed_before_the_answer_and_while_idle(make_system: Callable[..., SystemUnderTest]) -> None:
    system = make_system(discs_off=-14.0, faults=LinkFaults(answer_delay_s=0.4), max_frames=5)
    link = system.sem.text_link
    system.start("run", "middle-client")
    system.sem.scan()
    system.wait_for("a message that waits for its answer", lambda: len(link.applied) >= 1)
    assert link.acknowledged == set()
    system.kill("middle-client")
    system.start("middle-client")
    system.wait_for("two acknowledged", lambda: len(link.acknowledged) >= 2, keep_busy=True)
    system.kill("middle-client")
    system.start("middle-client")
    system.wait_for("five frames", system.frames_written(5), keep_busy=True)
    system.settle()
    assert link.order.receipts[link.applied[0].action_id] >= 2


def test_link_dropped_at_every_point_busy_and_refused(make_system: Callable[..., SystemUnderTest]) -> None:
    faults = LinkFaults(
        lose=frozenset({1}),
        drop_before_answer=frozenset({2}),
        drop_mid_answer=frozenset({3}),
        drop_after_answer=frozenset({4}),
        busy={5: 2},
        refuse=frozenset({6}),
    )
    system = make_system(discs_off=14.0, faults=faults, max_frames=8, rescan_after_s=6.0)
    link = system.sem.text_link
    system.start("run", "middle-client")
    system.sem.scan()
    system.wait_for("eight frames", system.frames_written(8), timeout_s=38.0, keep_busy=True)
    system.settle()
    assert len(link.refused) == 1
    # Frames that were asked for: the first, and those after an ADJUST or HOLD; a resend asks for none.
    assert len(link.applied) == 7
    assert link.connection_count() >= 5


def test_sem_program_restarts(make_system: Callable[..., SystemUnderTest]) -> None:
    system = make_system(discs_off=12.0, max_frames=5)
    system.sem.server.close()
    system.start("run", "middle-client")
    system.sem.scan()
    system.wait_for("an answer that nobody listens for", system.actions_filed(1))
    system.sem.server.listen()
    system.wait_for("three frames", system.frames_written(3), keep_busy=True)
    system.sem.server.close()
    # A message that was under way when the SEM program ended may come once more.
    system.audit.kills += 1
    system.sem.server.listen()
    system.wait_for("five frames", system.frames_written(5), keep_busy=True)
    system.settle()


@pytest.mark.parametrize("scoring_delay_s", [0.0, 0.2])
def test_aisem_never_resends_after_a_lost_reply_or_a_kill(
    make_system: Callable[..., SystemUnderTest], scoring_delay_s: float
) -> None:
    system = make_system(
        scoring_delay_s=scoring_delay_s,
        discs_off=14.0,
        layout="single",
        dialect="aisem",
        axes=("wd",),
        drop_before_reply=frozenset({1}),
        max_frames=6,
        rescan_after_s=6.0,
    )
    link = system.sem.aisem_link
    system.start("run", "middle-client")
    system.sem.scan()
    system.wait_for("a second command after the lost reply", lambda: len(link.commands) >= 2, timeout_s=38.0)
    system.kill("middle-client")
    system.start("middle-client")
    system.wait_for("five frames", system.frames_written(5), timeout_s=38.0)
    system.settle()
