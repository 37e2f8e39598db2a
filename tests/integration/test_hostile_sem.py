"""A SEM side that does everything wrong: nothing is applied twice, late or half, and the link comes back."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from semd.domain.axes import Axis
from semd.middle_client.client_process import run_middle_client
from semd.middle_client.settings import MiddleClientSettings
from semd.protocol.action import Action, Status, encode_action
from semd.service.logs import configure_logs
from semd.simulator.fault_plan import FaultPlan
from semd.simulator.faulty_link import AISEM_FAULTS, EXPECTED_EVENTS, RECOVERED_FAULTS, FaultySemLink, LinkFault

PATIENCE_S = 30.0
ANSWER_S = 0.6
FOLDERS = ("sent", "refused", "expired", "uncertain")


@dataclass
class Column:
    """Ground truth: what was applied, and when."""

    applied: list[str] = field(default_factory=list)
    applied_at: list[datetime] = field(default_factory=list)
    moved_mm: list[float] = field(default_factory=list)
    scan: Callable[[float], None] = lambda _: None

    def on_action(self, action: Action) -> Callable[[], None]:
        self.applied.append(action.id)
        self.applied_at.append(datetime.now(UTC))
        return lambda: None

    def on_working_distance(self, wd_mm: float) -> Callable[[], None]:
        self.moved_mm.append(wd_mm)
        return lambda: self.scan(wd_mm)


class Lab:
    def __init__(self, root: Path, plan: FaultPlan[LinkFault], dialect: str = "text", **other: object) -> None:
        self.actions_directory, self.state = root / "actions", root / "state"
        self.actions_directory.mkdir()
        self.column = Column()
        self.plan = plan
        self.dialect = dialect
        self.other = other
        self.published: list[Action] = []

    def publish(self, count: int, lifetime_s: float = 60.0, wd_mm: float | None = None) -> None:
        for _ in range(count):
            seq = len(self.published) + 1
            issued = datetime.now(UTC)
            action = Action(
                id=f"{seq:032x}", seq=seq, frame=f"f{seq}", status=Status.ADJUST, magnification=2000.0,
                targets={Axis.WD: wd_mm or 9.0 + seq / 10}, deltas={Axis.WD: 0.0 if wd_mm else 0.1}, score=5.0,
                reward=None, step=0, issued=issued, expires=issued + timedelta(seconds=lifetime_s),
            )  # fmt: skip
            temporary = self.actions_directory / ".new"
            temporary.write_bytes(encode_action(action))
            temporary.rename(self.actions_directory / action.file_name)
            self.published.append(action)

    def seqs(self, folder: str) -> list[int]:
        return sorted(int(path.name.split("-")[1]) for path in (self.actions_directory / folder).glob("action-*.txt"))

    def ended(self) -> int:
        return sum(len(self.seqs(folder)) for folder in FOLDERS)

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, ({name: self.seqs(name) for name in FOLDERS}, self.plan.happened)
            time.sleep(0.005)

    def events(self) -> list[str]:
        lines = (self.state / "logs" / "middle-client.log").read_text().splitlines()
        return [json.loads(line)["event"] for line in lines]

    @contextlib.contextmanager
    def running(self) -> Iterator[FaultySemLink]:
        configure_logs(self.state / "logs" / "middle-client.log")
        stop = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            settings = MiddleClientSettings(
                self.actions_directory, self.state, port=listener.getsockname()[1], dialect=self.dialect,
                answer_timeout_s=ANSWER_S, most_commands_per_minute=100_000, **self.other,
            )  # fmt: skip
            link = FaultySemLink(self.column, stop.is_set, plan=self.plan, pause=stop.wait)
            threads = [
                threading.Thread(target=link.serve, args=(listener, self.dialect)),
                threading.Thread(target=run_middle_client, args=(settings,), kwargs={"stop": stop}),
            ]
            for thread in threads:
                thread.start()
            try:
                yield link
            finally:
                stop.set()
                for thread in threads:
                    thread.join(PATIENCE_S)
                    assert not thread.is_alive()


@pytest.mark.parametrize("fault", LinkFault)
def test_each_fault_ends_in_its_events_and_the_link_recovers(tmp_path: Path, fault: LinkFault) -> None:
    lab = Lab(tmp_path, FaultPlan({2: fault}))
    with lab.running() as link:
        lab.publish(4)
        lab.until(lambda: lab.ended() == 4)
        wanted = EXPECTED_EVENTS[fault]
        lab.until(lambda: not Counter(wanted) - Counter(lab.events()))
    refused = [2] if fault is LinkFault.NAK else []
    assert lab.seqs("refused") == refused
    assert lab.seqs("sent") == [seq for seq in (1, 2, 3, 4) if seq not in refused]
    assert lab.column.applied == [action.id for action in lab.published if action.seq not in refused]
    assert lab.plan.happened == {fault: 1}
    again = link.received.count(lab.published[1].id) - 1
    expected = {LinkFault.SLOW: 0, LinkFault.SLICED: 0, LinkFault.DUPLICATED: 0, LinkFault.NAK: 0, LinkFault.BUSY: 5}
    assert again in ((0, 1) if fault is LinkFault.BUSY_THEN_DONE else (expected.get(fault, 1),))


def test_a_storm_of_all_faults_loses_doubles_and_delays_nothing(tmp_path: Path) -> None:
    plan = FaultPlan(share=0.6, kinds=RECOVERED_FAULTS["text"], rng=random.Random(5))
    lab = Lab(tmp_path, plan)
    with lab.running() as link:
        link.busy_times = 2
        lab.publish(25)
        lab.until(lambda: lab.ended() == 25)
    assert lab.seqs("sent") == list(range(1, 26))
    assert lab.column.applied == [action.id for action in lab.published]  # each once, in order
    assert all(at < action.expires for at, action in zip(lab.column.applied_at, lab.published, strict=True))
    assert len(plan.happened) >= 5


def test_busy_until_it_expires_is_never_applied(tmp_path: Path) -> None:
    lab = Lab(tmp_path, FaultPlan({1: LinkFault.BUSY}))
    with lab.running() as link:
        link.busy_times = 10_000
        lab.publish(1, lifetime_s=0.8)
        lab.until(lambda: lab.ended() == 1)
        lab.publish(1)
        lab.until(lambda: lab.ended() == 2)
    assert (lab.seqs("expired"), lab.seqs("sent")) == ([1], [2])
    assert lab.column.applied == [lab.published[1].id]


def test_silence_until_it_expires_is_in_doubt_and_not_sent_late(tmp_path: Path) -> None:
    lab = Lab(tmp_path, FaultPlan({1: LinkFault.HALF_OPEN}))
    with lab.running() as link:
        lab.publish(1, lifetime_s=0.4)
        lab.until(lambda: lab.ended() == 1)
        lab.publish(1)
        lab.until(lambda: lab.ended() == 2)
    assert (lab.seqs("uncertain"), lab.seqs("sent")) == ([1], [2])
    assert link.received == [action.id for action in lab.published]
    assert "action.uncertain" in lab.events()


@pytest.mark.parametrize("fault", AISEM_FAULTS)
def test_aisem_commands_go_out_once_whatever_becomes_of_them(tmp_path: Path, fault: LinkFault) -> None:
    """Without ids the next frame is the only proof; what has none is filed as uncertain and never sent again."""
    lab = Lab(tmp_path, FaultPlan({1: fault}), "aisem", confirm_timeout_s=1.5)
    lab.column.scan = lambda wd_mm: lab.publish(1, wd_mm=wd_mm) if len(lab.published) < 3 else None
    with lab.running() as link:
        lab.publish(1)
        is_applied = fault in RECOVERED_FAULTS["aisem"]
        if is_applied:
            lab.until(lambda: 1 in lab.seqs("sent"))
        else:
            lab.until(lambda: 1 in lab.seqs("uncertain"))
            lab.publish(1)  # somebody has scanned by hand
        lab.until(lambda: 2 in lab.seqs("sent"))
    commands = len(link.received)
    assert commands == len(lab.column.moved_mm) + (0 if is_applied else 1)
    assert lab.column.moved_mm[0] == pytest.approx(9.1 if is_applied else lab.published[1].targets[Axis.WD])
    assert lab.plan.happened == {fault: 1}
    for seq in (1, 2):  # one command each
        assert sum(seq in lab.seqs(folder) for folder in FOLDERS) == 1
    silent = (
        LinkFault.SLOW,
        LinkFault.SLICED,
        LinkFault.DUPLICATED,
        LinkFault.CUT,
        LinkFault.GARBAGE,
        LinkFault.ENDLESS,
    )
    assert ("link.lost" in lab.events()) == (fault not in silent or fault is LinkFault.CUT)
