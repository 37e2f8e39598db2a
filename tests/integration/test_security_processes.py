"""The real processes: nothing listens, a dry run opens no link, and the abort command stops what runs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from harness.outbox import drop_file, make_action, places

PATIENCE_S = 120.0
HEARD_S = 2.5
"""Two heartbeats and a half: what a process does within a second it has done."""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    for name in ("watch", "actions", "state"):
        (tmp_path / name).mkdir()
    return tmp_path / "semd.toml"


def write(config: Path, port: int, extra: str = "") -> None:
    config.write_text(
        f'[watch]\ndirectory = "watch"\n[actions]\ndirectory = "actions"\n{extra}[state]\ndirectory = "state"\n'
        f"[link]\nport = {port}\n"
    )


def semd(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "semd", *words, "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


@contextlib.contextmanager
def running(config: Path, *words: str) -> Iterator[psutil.Process]:
    log = config.with_name(f"{words[0]}.log")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "semd", *words, "--config", str(config)],
            stdout=out,
            stderr=out,
            env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
        )
    try:
        yield psutil.Process(process.pid)
        assert process.poll() is None, log.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def heartbeat(config: Path, name: str) -> dict[str, object]:
    path = config.parent / "state" / name
    found: dict[str, object] = json.loads(path.read_bytes()) if path.exists() else {}
    return found


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def listening(process: psutil.Process) -> list[object]:
    """Sockets that another program could speak to: TCP that listens, UDP that is bound."""
    return [
        found
        for member in family(process)
        for found in member.net_connections("inet")
        if found.status == psutil.CONN_LISTEN or (found.type == socket.SOCK_DGRAM and found.laddr)
    ]


def test_a_socket_that_listens_would_be_noticed() -> None:
    me = psutil.Process()
    before = len(listening(me))
    with socket.create_server(("127.0.0.1", 0)):
        assert len(listening(me)) == before + 1


def test_neither_process_listens(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sem:
        sem.settimeout(PATIENCE_S)
        write(config, sem.getsockname()[1])
        with running(config, "run") as daemon, running(config, "middle-client") as client:
            peer, _ = sem.accept()
            with peer:
                wait_for(lambda: heartbeat(config, "middle-client-health.json").get("link_up") is True)
                wait_for(lambda: heartbeat(config, "health.json").get("directory_ok") is True)
                assert listening(client) == []
                assert listening(daemon) == []
                # The link is the one socket of the client; the daemon has none at all.
                assert [found.raddr.port for found in client.net_connections("inet")] == [sem.getsockname()[1]]
                assert [found for member in family(daemon) for found in member.net_connections("inet")] == []


@pytest.mark.parametrize("told_by", ["option", "configuration"])
def test_a_dry_run_never_connects(config: Path, told_by: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sem:
        write(config, sem.getsockname()[1], "dry_run = true\n" if told_by == "configuration" else "")
        words = ["middle-client", "--dry-run"] if told_by == "option" else ["middle-client"]
        drop_file(config.parent / "actions", make_action(1, issued=datetime.now(UTC), lifetime_s=600.0))
        with running(config, *words) as client:
            wait_for(lambda: places(config.parent / "actions") == {"dry-run": [1]})
            wait_for(lambda: heartbeat(config, "middle-client-health.json").get("outcomes") == {"dry-run": 1})
            assert client.net_connections("inet") == []
        sem.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sem.accept()
    assert not (config.parent / "state" / "audit").exists()


def test_the_abort_command_stops_a_running_client_and_a_restarted_one(config: Path) -> None:
    actions = config.parent / "actions"
    with socket.create_server(("127.0.0.1", 0)) as sem:
        sem.settimeout(PATIENCE_S)
        write(config, sem.getsockname()[1])
        for _ in range(2):
            with running(config, "middle-client"):
                peer, _ = sem.accept()
                with peer:
                    wait_for(lambda: heartbeat(config, "middle-client-health.json").get("link_up") is True)
                    assert semd(config, "abort").returncode == 0
                    wait_for(lambda: bool(heartbeat(config, "middle-client-health.json").get("aborted")))
                    drop_file(actions, make_action(1, issued=datetime.now(UTC), lifetime_s=600.0))
                    peer.settimeout(HEARD_S)
                    with pytest.raises(TimeoutError):
                        peer.recv(1)
        health = semd(config, "health")
        assert health.returncode == 1
        assert "aborted" in health.stdout
        with running(config, "middle-client"):
            peer, _ = sem.accept()
            with peer:
                peer.settimeout(PATIENCE_S)
                assert semd(config, "abort", "--clear").returncode == 0
                assert b"SEMD-ACTION=1" in peer.recv(4096)
                peer.sendall(f"ACK {make_action(1).id}\n".encode())
                wait_for(lambda: places(actions) == {"sent": [1]})
    shown = semd(config, "audit")
    assert len(shown.stdout.splitlines()) == 1
    assert "00000001" in shown.stdout
    assert "ACK after" in shown.stdout
