"""The whole loop with a microscope that saves badly behind a link that fails: nothing is lost, doubled or left over."""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from pathlib import Path

import pytest
from harness.daemon_process import make_daemon

from semd.middle_client.client_process import run_middle_client
from semd.middle_client.settings import MiddleClientSettings
from semd.protocol.pairing import Layout
from semd.simulator.fault_plan import FaultPlan
from semd.simulator.faulty_link import RECOVERED_FAULTS
from semd.simulator.faulty_writer import ANSWERED_FAULTS, FaultyWriter
from semd.simulator.microscope import VirtualMicroscope
from semd.simulator.nanostation import NanoStation


@pytest.mark.parametrize("layout", Layout)
def test_a_run_ends_in_spite_of_everything(tmp_path: Path, layout: Layout) -> None:
    daemon = make_daemon(tmp_path, layout, settle_s=1.6)
    writer = FaultyWriter(
        daemon.watch, layout, plan=FaultPlan(share=0.5, kinds=ANSWERED_FAULTS, rng=random.Random(2)), rest_s=0.05
    )
    applied: list[str] = []
    station = NanoStation(
        VirtualMicroscope("grid", 2000.0, 1),
        writer,
        on_applied=lambda action: applied.append(action.id),
        link_faults=FaultPlan(share=0.5, kinds=RECOVERED_FAULTS["text"], rng=random.Random(2)),
    )
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener, daemon.running():
        settings = MiddleClientSettings(
            daemon.config.actions.directory, daemon.config.state.directory, port=listener.getsockname()[1],
            answer_timeout_s=0.6, most_commands_per_minute=100_000,
        )  # fmt: skip
        threads = [
            threading.Thread(target=station.run, args=(listener,)),
            threading.Thread(target=run_middle_client, args=(settings,), kwargs={"stop": stop}),
        ]
        for thread in threads:
            thread.start()
        try:
            assert station.ended.wait(120.0), (daemon.actions(), writer.plan.happened, station.link_faults.happened)
            sent = daemon.config.actions.directory / "sent"
            daemon.until(lambda: len(list(sent.glob("action-*.txt"))) == len(station.taken))
        finally:
            station.stopping.set()
            stop.set()
            for thread in threads:
                thread.join(20.0)
                assert not thread.is_alive()
    actions = daemon.actions()
    assert len(actions) == len(station.taken) == len(writer.ends) > 5
    assert applied == [action.id for action in actions]  # each frame's action once, in order
    assert Counter(writer.ends.values())["held"] == len(daemon.reasons())
    assert station.link_faults.happened.total() >= 3
    assert writer.plan.happened.total() >= 3
