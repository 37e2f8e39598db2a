"""Real processes that hang end themselves, say where, and leave everything fit for the next start."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.daemon_process import make_daemon

from semd.daemon.daemon_process import HUNG_FILE as DAEMON_HUNG_FILE
from semd.middle_client.client_process import HEALTH_FILE, HUNG_FILE
from semd.service.hang_guard import HUNG_EXIT_STATUS

PATIENCE_S = 120.0
LIMIT_S = 3.0

CLIENT = """
import signal, sys, threading
from pathlib import Path
from semd.service.logs import configure_logs
from semd.middle_client.gate import Gate
from semd.middle_client.client_process import run_middle_client
from semd.middle_client.settings import MiddleClientSettings

directory, manner = Path(sys.argv[1]), sys.argv[2]
configure_logs(directory / "log")
rounds = 0
look = Gate.look

def hangs_here(gate):
    global rounds
    rounds += 1
    if rounds > 5:
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
    return look(gate)

if manner == "hang":
    Gate.look = hangs_here
if manner == "break":
    signal.SIGBREAK = signal.SIGUSR1
settings = MiddleClientSettings(directory / "actions", directory / "state", dry_run=True, end_hung_s=float(sys.argv[3]))
sys.exit(run_middle_client(settings))
"""

DAEMON = """
import signal, sys, time
from pathlib import Path
from semd.config import load_config
from semd.daemon.daemon_process import run_daemon
from semd.pipeline import Pipeline
from semd.testing import NO_MODELS_DIGEST, ConstantScorer, still_actor

config, manner = load_config(Path(sys.argv[1])), sys.argv[2]

class Scorer(ConstantScorer):
    def judge(self, image, magnification):
        if manner == "hang":
            self.hangs_here()
        return super().judge(image, magnification)

    def hangs_here(self):
        while True:
            time.sleep(1.0)

if manner == "break":
    signal.SIGBREAK = signal.SIGUSR1
sys.exit(run_daemon(config, source=Pipeline(Scorer(), still_actor, config.rules(5, 0.2), NO_MODELS_DIGEST)))
"""

NATIVE = """
import ctypes, sys
from pathlib import Path
from semd.service.hang_guard import HangGuard

with HangGuard(lambda: 1.0, 1.0, Path(sys.argv[1]), start_patience_s=0.0, native_grace_s=0.5):
    # PyDLL, unlike CDLL, keeps the interpreter's lock during the call: no other thread of Python runs.
    ctypes.PyDLL(None).sleep(600)
"""


def start(program: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def end_of(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    try:
        said, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        # Reads to the end and closes the pipe, also where the patience ran out.
        process.communicate()
    return process.returncode, said.decode()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, end_of(process)
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def stop(process: subprocess.Popen[bytes], condition: Callable[[], bool], number: int) -> tuple[int, str]:
    """Wait for what shows that it works, then ask it to stop."""
    try:
        wait_for(condition, process)
        process.send_signal(number)
    except BaseException:
        process.kill()
        raise
    return end_of(process)


def hung_events(path: Path) -> list[dict[str, object]]:
    events = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [event for event in events if event["event"] == "process.hung"]


def test_a_middle_client_that_hangs_ends_itself_and_the_next_one_starts(tmp_path: Path) -> None:
    (tmp_path / "actions").mkdir()
    status, said = end_of(start(CLIENT, tmp_path, "hang", LIMIT_S))
    assert status == HUNG_EXIT_STATUS, said
    stacks = (tmp_path / "state" / HUNG_FILE).read_text()
    assert "hangs_here" in stacks
    [event] = hung_events(tmp_path / "log")
    assert "hangs_here" in str(event["stacks"])
    health = tmp_path / "state" / HEALTH_FILE
    health.unlink()
    status, said = stop(start(CLIENT, tmp_path, "well", LIMIT_S), health.exists, signal.SIGTERM)
    assert status == 0, said
    assert (tmp_path / "state" / HUNG_FILE).read_text() == stacks


@pytest.mark.slow
def test_a_daemon_that_hangs_in_a_frame_ends_itself_and_the_next_one_answers_it(tmp_path: Path) -> None:
    daemon = make_daemon(tmp_path)
    config = tmp_path / "semd.toml"
    config.write_text(
        config.read_text() + f"\n[link]\nconnect_timeout_s = 0.5\n[health]\nend_hung_s = {LIMIT_S}\n", "utf-8"
    )
    first = start(DAEMON, config, "hang", "-")
    try:
        wait_for((daemon.config.state.directory / "health.json").exists, first)
        daemon.write_good("f")  # after the first round, which may take longer
    except BaseException:
        first.kill()
        raise
    status, said = end_of(first)
    assert status == HUNG_EXIT_STATUS, said
    assert "hangs_here" in (daemon.config.state.directory / DAEMON_HUNG_FILE).read_text()
    [event] = hung_events(daemon.config.log_directory / "daemon.log")
    assert "hangs_here" in str(event["stacks"])
    assert daemon.actions() == []
    status, said = stop(start(DAEMON, config, "well", "-"), lambda: len(daemon.actions()) == 1, signal.SIGINT)
    assert status == 0, said
    assert [action.frame for action in daemon.actions()] == ["f"]


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no signal to play Ctrl+Break with")
@pytest.mark.parametrize("program", [CLIENT, DAEMON], ids=["middle-client", "daemon"])
def test_ctrl_break_stops_both_in_order(tmp_path: Path, program: str) -> None:
    if program == CLIENT:
        (tmp_path / "actions").mkdir()
        process, sign = start(CLIENT, tmp_path, "break", 0), tmp_path / "state" / HEALTH_FILE
    else:
        daemon = make_daemon(tmp_path)
        process = start(DAEMON, tmp_path / "semd.toml", "break", "-")
        sign = daemon.config.state.directory / "health.json"
    status, said = stop(process, sign.exists, signal.SIGUSR1)
    assert status == 0, said
    assert "stopped" in said


@pytest.mark.skipif(sys.platform == "win32", reason="the C library has another name")
def test_native_code_that_never_gives_the_interpreter_back_is_ended_too(tmp_path: Path) -> None:
    status, said = end_of(start(NATIVE, tmp_path / "h"))
    assert status == 1, said
    assert 'File "<string>"' in (tmp_path / "h").read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="systemd's watchdog")
def test_a_process_that_the_watchdog_of_systemd_aborts_leaves_its_stacks_too(tmp_path: Path) -> None:
    program = NATIVE.replace("ctypes.PyDLL(None).sleep(600)", "import os; os.abort()")
    status, said = end_of(start(program, tmp_path / "h"))
    assert status == -signal.SIGABRT, said
    stacks = (tmp_path / "h").read_text()
    assert "Aborted" in stacks
    assert 'File "<string>"' in stacks
