"""Messages of real loops to a service manager: ready when they work, alive while they get on, none when they hang."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from harness.daemon_process import make_daemon

from semd.daemon.health_probes import ProbeTargets
from semd.domain.frame_score import FrameScore
from semd.errors import StorageError
from semd.inbox.watch import Watch
from semd.middle_client.client_process import run_middle_client
from semd.middle_client.settings import MiddleClientSettings
from semd.outbox.ledger import Ledger
from semd.service.notify import ServiceManager
from semd.testing import ConstantScorer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the protocol is that of systemd")

PATIENCE_S = 20.0


class Listener:
    """The manager's socket. Read without pause: the kernel keeps few datagrams, and a sender waits for room."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0.05)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                self._heard.put(self._socket.recv(4096).decode())

    def next(self, timeout_s: float = PATIENCE_S) -> str:
        return self._heard.get(timeout=timeout_s)

    def until(self, message: str) -> list[str]:
        """Everything up to a message."""
        heard = [self.next()]
        while heard[-1] != message:
            heard.append(self.next())
        return heard

    def drain(self) -> list[str]:
        heard: list[str] = []
        while True:
            try:
                heard.append(self.next(timeout_s=0.2))
            except queue.Empty:
                return heard

    def manager(self) -> ServiceManager:
        """A manager that is fed at every round."""
        return ServiceManager(str(self.path), watchdog_s=1e-6)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    listening = Listener(tmp_path / "notify")
    yield listening
    listening.close()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def test_the_daemon_is_ready_once_it_watches_and_says_when_it_stops(tmp_path: Path, listener: Listener) -> None:
    daemon = make_daemon(tmp_path)
    with daemon.running(listener.manager()):
        assert listener.next() == "READY=1"
        daemon.write_good("f")
        listener.until("STATUS=1 frames answered, 0 waiting; last ADJUST for f")
    heard = listener.drain()
    assert heard.count("STOPPING=1") == 1
    assert "READY=1" not in heard


def test_the_daemon_is_not_ready_before_its_directory_can_be_watched(tmp_path: Path, listener: Listener) -> None:
    daemon = make_daemon(tmp_path)
    daemon.watch.rmdir()
    with daemon.running(listener.manager()):
        before = listener.until("STATUS=the watch directory cannot be scanned")
        before += listener.until("WATCHDOG=1")
        assert "READY=1" not in before
        daemon.watch.mkdir()
        listener.until("READY=1")


def test_the_daemon_is_not_ready_before_its_ledger_can_be_finished(
    tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = make_daemon(tmp_path)
    unfinished = Ledger.unfinished
    full = threading.Event()
    full.set()

    def fail(self: Ledger) -> object:
        if full.is_set():
            raise StorageError("the disk is full")
        return unfinished(self)

    monkeypatch.setattr(Ledger, "unfinished", fail)
    with daemon.running(listener.manager()):
        before = listener.until("WATCHDOG=1")
        assert "READY=1" not in before
        full.clear()
        listener.until("READY=1")


def test_without_events_the_scan_is_watch_enough(
    tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: Watch) -> None:
        raise StorageError("the system's limit of watches is reached")

    monkeypatch.setattr(Watch, "start", start)
    daemon = make_daemon(tmp_path)
    with daemon.running(listener.manager()):
        listener.until("READY=1")


def test_a_loop_that_hangs_falls_silent_although_its_threads_live(
    tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, free = threading.Event(), threading.Event()

    def hang(self: ConstantScorer, image: np.ndarray, magnification: float) -> FrameScore:
        hanging.set()
        free.wait(PATIENCE_S)
        return FrameScore(5.0)

    monkeypatch.setattr(ConstantScorer, "judge", hang)
    daemon = make_daemon(tmp_path)
    manager = listener.manager()
    with daemon.running(manager):
        listener.until("WATCHDOG=1")
        daemon.write_good("f")
        assert hanging.wait(PATIENCE_S)
        listener.drain()
        mark_s = manager.progress_s
        (daemon.watch / "another.txt").write_text("an event, for the thread that listens")
        with pytest.raises(queue.Empty):
            listener.next(timeout_s=0.5)
        assert manager.progress_s == mark_s
        free.set()
        listener.until("WATCHDOG=1")
        assert manager.progress_s > mark_s


def test_every_answered_frame_of_a_backlog_is_progress(
    tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = make_daemon(tmp_path)
    for number in range(5):
        daemon.write_good(f"f{number}", seed=number)
    manager = listener.manager()
    marks: list[float] = []

    def note(self: ConstantScorer, image: np.ndarray, magnification: float) -> FrameScore:
        marks.append(manager.progress_s)
        return FrameScore(5.0)

    monkeypatch.setattr(ConstantScorer, "judge", note)
    with daemon.running(manager):
        daemon.answered("f4")
    assert len(marks) == len(set(marks)) == 5


def test_a_silent_emitter_and_a_deaf_watch_show_in_health_and_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semd.inbox.watch._EventHandler.on_any_event", lambda self, event: None)
    daemon = make_daemon(tmp_path)
    state = daemon.config.state.directory
    with daemon.running(probe_targets=ProbeTargets(disks={"state": state})):
        wait_for((state / "health.json").exists)
        for number in range(3):
            daemon.write_good(f"f{number}", seed=number)
            daemon.answered(f"f{number}")
        wait_for(lambda: json.loads((state / "health.json").read_bytes())["unheard_frames"] == 3)
        wait_for(lambda: "semd_unheard_frames 3.0" in (state / "semd.prom").read_text())
        assert json.loads((state / "health.json").read_bytes())["watching"]


def test_with_events_no_frame_is_unheard(tmp_path: Path) -> None:
    daemon = make_daemon(tmp_path, layout="single")
    state = daemon.config.state.directory
    with daemon.running():
        wait_for((state / "health.json").exists)
        for number in range(4):
            daemon.write_good("ResponseImage", seed=number)
            daemon.until(lambda count=number: len(daemon.actions()) == count + 1)  # type: ignore[misc]

        def all_heard() -> bool:
            health = json.loads((state / "health.json").read_bytes())
            return health["answered"] == 4 and health["unheard_frames"] == 0

        wait_for(all_heard)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_the_middle_client_is_ready_without_a_link_and_not_without_its_directory(
    tmp_path: Path, listener: Listener
) -> None:
    actions, state = tmp_path / "actions", tmp_path / "state"
    state.mkdir()
    stop = threading.Event()
    manager = listener.manager()
    settings = MiddleClientSettings(action_directory=actions, state_directory=state, port=free_port())
    thread = threading.Thread(target=run_middle_client, args=(settings,), kwargs={"stop": stop, "manager": manager})
    thread.start()
    try:
        before = listener.until("WATCHDOG=1")
        assert "READY=1" not in before
        wait_for(lambda: "semd_middle_client_storage_ok 0.0" in prom(state))
        actions.mkdir()
        listener.until("READY=1")
        listener.until("STATUS=the link is down")
        wait_for(lambda: "semd_middle_client_storage_ok 1.0" in prom(state))
        assert "semd_link_up 0.0" in prom(state)
    finally:
        stop.set()
        thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert listener.drain()[-1] == "STOPPING=1"


def prom(state: Path) -> str:
    try:
        return (state / "semd-middle-client.prom").read_text()
    except FileNotFoundError:
        return ""
