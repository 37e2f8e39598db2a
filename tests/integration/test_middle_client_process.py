"""The Middle Client over a real socket: losses, restarts, kills. The server applies an id once and counts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from harness.middle_client_process import (
    PATIENCE_S,
    at_first,
    make_action,
    publish,
    running,
    seqs_in,
    serving,
    wait_for,
    with_port,
)

from semd.errors import StorageError
from semd.middle_client.client_process import HEALTH_FILE, JOURNAL_FILE, run_middle_client
from semd.middle_client.settings import MiddleClientSettings


@pytest.mark.parametrize("manner", ["ack", "busy", "lose", "drop", "ack-and-drop", "half"])
def test_every_action_is_applied_once_and_in_order(settings: MiddleClientSettings, manner: str) -> None:
    for seq in (3, 1, 2):
        publish(settings.action_directory, make_action(seq))
    with serving(at_first(manner)) as sem, running(with_port(settings, sem.port)):
        wait_for(lambda: seqs_in(settings, "sent") == [1, 2, 3])
    assert sem.applied == [1, 2, 3]
    expected = 3 if manner in ("ack", "ack-and-drop") else 4
    assert len(sem.messages) == expected
    assert set(Counter(sem.raw).values()) == ({1} if expected == 3 else {1, 2})
    assert sem.connections == (1 if manner in ("ack", "busy") else 2)
    assert seqs_in(settings, "") == []


def test_a_refused_action_does_not_stop_the_next(settings: MiddleClientSettings) -> None:
    publish(settings.action_directory, make_action(1))
    publish(settings.action_directory, make_action(2))
    with serving(at_first("nak")) as sem, running(with_port(settings, sem.port)):
        wait_for(lambda: seqs_in(settings, "sent") == [2])
    assert (seqs_in(settings, "refused"), sem.applied) == ([1], [2])


def test_silence_is_followed_by_a_new_connection(settings: MiddleClientSettings) -> None:
    publish(settings.action_directory, make_action(1))
    with (
        serving(at_first("hang")) as sem,
        running(with_port(settings, sem.port, answer_timeout_s=0.2)),
    ):
        wait_for(lambda: seqs_in(settings, "sent") == [1])
    assert (sem.applied, len(sem.messages), sem.connections) == ([1], 2, 2)


def test_a_sem_that_starts_late_is_found_and_what_expired_is_not_sent(settings: MiddleClientSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    publish(settings.action_directory, make_action(1, lifetime_s=0.2))
    with running(with_port(settings, port)):
        wait_for(lambda: seqs_in(settings, "expired") == [1])
        assert not health(settings)["link_up"]
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.settimeout(PATIENCE_S)
            peer, _ = listener.accept()
            with peer:
                wait_for(lambda: bool(health(settings)["link_up"]))


def test_the_heartbeat_tells_how_it_fares(settings: MiddleClientSettings) -> None:
    publish(settings.action_directory, make_action(4))
    with serving(lambda _: "ack") as sem, running(with_port(settings, sem.port)):
        wait_for(lambda: seqs_in(settings, "sent") == [4])
        wait_for(lambda: health(settings)["newest_acknowledged_seq"] == 4)
        beat = health(settings)
    assert beat["link_up"] is True
    assert (beat["pid"], beat["pending"], beat["in_flight"]) == (os.getpid(), 0, None)
    assert beat["outcomes"] == {"sent": 1}


def test_a_second_client_on_the_same_state_is_refused(settings: MiddleClientSettings) -> None:
    with serving(lambda _: "ack") as sem, running(with_port(settings, sem.port)):
        wait_for(lambda: sem.connections == 1)
        with pytest.raises(StorageError, match="another process"):
            run_middle_client(with_port(settings, sem.port))


def test_a_directory_that_vanishes_and_returns_stops_nothing(settings: MiddleClientSettings) -> None:
    away = settings.action_directory.with_name("away")
    with serving(lambda _: "ack") as sem, running(with_port(settings, sem.port)):
        wait_for(lambda: sem.connections == 1)
        settings.action_directory.rename(away)
        wait_for(lambda: "is gone" in str(health(settings)["trouble"]))
        away.rename(settings.action_directory)
        publish(settings.action_directory, make_action(1))
        wait_for(lambda: seqs_in(settings, "sent") == [1])


def health(settings: MiddleClientSettings) -> dict[str, object]:
    path = settings.state_directory / HEALTH_FILE
    found: dict[str, object] = json.loads(path.read_bytes()) if path.exists() else {}
    return {"link_up": None, "newest_acknowledged_seq": None, "trouble": None} | found


def spawn(settings: MiddleClientSettings) -> subprocess.Popen[bytes]:
    program = (
        "from pathlib import Path\n"
        "from semd.middle_client.client_process import run_middle_client\n"
        "from semd.middle_client.settings import MiddleClientSettings\n"
        f"raise SystemExit(run_middle_client(MiddleClientSettings(Path({str(settings.action_directory)!r}), "
        f"Path({str(settings.state_directory)!r}), port={settings.port}, dialect={settings.dialect!r}, "
        f"confirm_timeout_s={settings.confirm_timeout_s})))"
    )
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def spawned(settings: MiddleClientSettings) -> Iterator[subprocess.Popen[bytes]]:
    process = spawn(settings)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_killed_between_send_and_answer_nothing_is_applied_twice(settings: MiddleClientSettings) -> None:
    for seq in (1, 2):
        publish(settings.action_directory, make_action(seq))
    with serving(at_first("hang")) as sem:
        settings = with_port(settings, sem.port)
        with spawned(settings) as first:
            wait_for(lambda: len(sem.messages) == 1)
            first.send_signal(signal.SIGKILL)
            first.wait()
        journal = json.loads((settings.state_directory / JOURNAL_FILE).read_bytes())
        assert (journal["in_flight"], journal["was_sent"]) == (make_action(1).file_name, True)
        with spawned(settings) as second:
            wait_for(lambda: seqs_in(settings, "sent") == [1, 2])
            second.send_signal(signal.SIGTERM)
            assert second.wait(PATIENCE_S) == 0
    assert sem.applied == [1, 2]
    assert [action.seq for action in sem.messages] == [1, 1, 2]
    assert sem.raw[0] == sem.raw[1]


def test_aisem_greets_commands_once_across_a_kill_and_says_goodbye(settings: MiddleClientSettings) -> None:
    publish(settings.action_directory, make_action(1))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_S)
        port = listener.getsockname()[1]
        settings = with_port(settings, port, dialect="aisem", confirm_timeout_s=60.0)
        greeting = b"Connected.COMM.START.READY"
        with spawned(settings) as first:
            peer, _ = listener.accept()
            with peer:
                assert receive(peer, len(greeting) + 17) == greeting + b"WDMAG,9.0000,2000"
                first.send_signal(signal.SIGKILL)
                first.wait()
        with spawned(settings) as second:
            peer, _ = listener.accept()
            with peer:
                assert receive(peer, len(greeting)) == greeting
                # The scan that the command brought about was answered: its read-back is the proof.
                publish(settings.action_directory, make_action(2))
                assert receive(peer, 17) == b"WDMAG,9.0000,2000"
                assert (seqs_in(settings, "sent"), seqs_in(settings, "")) == ([1], [2])
                second.send_signal(signal.SIGTERM)
                assert receive(peer, 6) == b"FINISH"
                assert second.wait(PATIENCE_S) == 0


def receive(peer: socket.socket, size: int) -> bytes:
    peer.settimeout(PATIENCE_S)
    data = b""
    while len(data) < size:
        piece = peer.recv(size - len(data))
        assert piece, f"the client left after {data!r}"
        data += piece
    return data


def test_the_process_loads_nothing_heavy() -> None:
    modules = "semd.middle_client.client_process, semd.config, semd.service.logs"
    program = f"import sys, {modules}; print([name for name in ('torch', 'cv2') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"
