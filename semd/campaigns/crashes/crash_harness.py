"""Harness of a crash run: directories, the two processes, and the SEM on a real socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from semd.campaigns.crashes.crash_sem import CrashSem
from semd.config import Config, load_config
from semd.daemon.health import CLIENT_HEALTH_FILE, HEALTH_FILE
from semd.errors import StorageError
from semd.middle_client.client_process import JOURNAL_FILE
from semd.protocol.pairing import Layout
from semd.service.failpoints import ENVIRONMENT, PERMIT_FILE, Part, Trap

_LOOK_S = 0.02
_STALL_S = 1.0
_GRACE_S = 30.0
_HEALTH = {Part.DAEMON: HEALTH_FILE, Part.MIDDLE_CLIENT: CLIENT_HEALTH_FILE}
_LOGS = {Part.DAEMON: "daemon.log", Part.MIDDLE_CLIENT: "middle-client.log"}


@dataclass(slots=True)
class CrashHarness:
    """Directories, processes and the SEM of one crash run.

    Attributes:
        directory: parent of all directories.
        config: configuration of both processes.
        daemon_module: module of the daemon for `python -m`; `semd` for the production daemon.
        sem: the SEM.
        timeout_s: timeout of every wait.
    """

    directory: Path
    config: Config
    daemon_module: str
    sem: CrashSem
    timeout_s: float
    _children: dict[Part, subprocess.Popen[bytes]] = field(default_factory=dict)
    _stalled_since_s: float | None = None

    def start(self, part: Part, trap: Trap | None = None) -> None:
        """Start a process, optionally with a trap armed."""
        environment = {key: value for key, value in os.environ.items() if key != ENVIRONMENT}
        if trap is not None:
            environment[ENVIRONMENT] = str(trap)
        config = str(self.directory / "semd.toml")
        arguments = ["-m", "semd", "middle-client", "--config", config]
        if part is Part.DAEMON:
            is_real = self.daemon_module == "semd"
            arguments = ["-m", self.daemon_module, *(["run", "--config"] if is_real else []), config]
        with self._errors(part).open("ab") as errors:
            self._children[part] = subprocess.Popen(  # noqa: S603
                [sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=errors
            )

    def stop(self, part: Part) -> None:
        """Stop a process by SIGTERM and wait for its end.

        Raises:
            StorageError: the process did not end in time, or ended with an error.
        """
        child = self._children[part]
        # Before its handlers are installed, the signal would kill the process.
        self.until(lambda: self._is_up(part), f"the {part} to be up")
        child.send_signal(signal.SIGTERM)
        try:
            status = child.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            status = -signal.SIGKILL
        if status:
            raise StorageError(f"the {part} ended with status {status}; see {self._errors(part)}")

    def until_killed(self, part: Part) -> None:
        """Wait until a process has been killed by its trap.

        Raises:
            StorageError: the process was not killed in time, or ended in another way.
        """
        child = self._children[part]
        self.until(lambda: child.poll() is not None, f"the {part} to be killed", alive=())
        if child.returncode != -signal.SIGKILL:
            raise StorageError(f"the {part} ended with status {child.returncode}; see {self._errors(part)}")

    def is_dead(self, part: Part) -> bool:
        """Return True if a process has ended."""
        return self._children[part].poll() is not None

    def until(self, condition: Callable[[], bool], what: str, *, alive: tuple[Part, ...] = tuple(Part)) -> None:
        """Wait for a condition; meanwhile scan again, as the operator does, when the aisem link has parked its command.

        Args:
            condition: returns True to end the wait.
            what: description of the condition.
            alive: processes that must not end meanwhile.

        Raises:
            StorageError: the condition did not hold in time, or a process ended.
        """
        deadline = time.monotonic() + self.timeout_s
        while not condition():
            for part in alive:
                if self.is_dead(part):
                    status = self._children[part].returncode
                    raise StorageError(
                        f"waiting for {what}: the {part} ended with status {status}; see {self._errors(part)}"
                    )
            if time.monotonic() > deadline:
                raise StorageError(f"waited {self.timeout_s:g} s in vain for {what}; see {self.directory}")
            self._help_out()
            time.sleep(_LOOK_S)

    def ended(self) -> int:
        """Count the frames that have ended: action files and reason files."""
        actions = sum(1 for _ in self.config.actions.directory.rglob("action-*.txt*"))
        return actions + sum(1 for _ in (self.config.state.directory / "quarantine").glob("*.reason.txt"))

    def pending(self) -> int:
        """Count the pending actions."""
        return sum(1 for _ in self.config.actions.directory.glob("action-*.txt"))

    def springs(self, part: Part) -> int:
        """Count the traps that have fired in a process, over all its restarts."""
        path = self._errors(part)
        return path.read_text("utf-8", "replace").count(" springs\n") if path.exists() else 0

    def logged(self, part: Part) -> str:
        """Return the whole log of a process."""
        path = self.config.log_directory / _LOGS[part]
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def kill_all(self) -> None:
        """Kill the processes that are still running."""
        for child in self._children.values():
            if child.poll() is None:
                child.kill()
                child.wait()

    def _is_up(self, part: Part) -> bool:
        try:
            said = json.loads((self.config.state.directory / _HEALTH[part]).read_bytes())
        except FileNotFoundError:
            return False
        return bool(said["pid"] == self._children[part].pid)

    def _errors(self, part: Part) -> Path:
        return self.directory / f"{part}.errors"

    def _help_out(self) -> None:
        """Scan again, as the operator does, when the delivery of an aisem command is unknown and it never arrived."""
        if not self._is_parked():
            self._stalled_since_s = None
        elif self._stalled_since_s is None:
            self._stalled_since_s = time.monotonic()
        elif time.monotonic() - self._stalled_since_s > _STALL_S:
            self._stalled_since_s = None
            self.sem.scan()

    def _is_parked(self) -> bool:
        if self.sem.dialect != "aisem" or self.sem.finishing.is_set() or self.is_dead(Part.MIDDLE_CLIENT):
            return False
        try:
            entry = json.loads((self.config.state.directory / JOURNAL_FILE).read_bytes())
        except FileNotFoundError:
            return False
        newest = self.sem.frames[-1] if self.sem.frames else None
        if newest is None or not entry["was_sent"] or newest.identity not in str(entry["in_flight"]):
            return False
        return not any(b",%d" % newest.magnification in transcript for transcript in self.sem.transcripts)


@contextmanager
def open_crash_harness(
    directory: Path,
    layout: Layout,
    dialect: str,
    *,
    daemon_module: str,
    models_digest: str,
    timeout_s: float,
) -> Iterator[CrashHarness]:
    """Make the directories and start the SEM; on exit, stop the processes and the SEM."""
    for name in ("watch", "actions", "state"):
        (directory / name).mkdir(parents=True)
    (directory / "state" / PERMIT_FILE).write_text("This state directory is a test harness's.\n")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        path = directory / "semd.toml"
        path.write_text(_config_text(layout, dialect, listener.getsockname()[1]))
        config = load_config(path)
        sem = CrashSem(config.watch.directory, layout, dialect, models_digest)
        harness = CrashHarness(directory, config, daemon_module, sem, timeout_s)
        thread = threading.Thread(target=sem.serve, args=(listener,), name="sem")
        thread.start()
        try:
            yield harness
        finally:
            sem.finishing.set()
            sem.stopping.set()
            harness.kill_all()
            thread.join()


def _config_text(layout: Layout, dialect: str, port: int) -> str:
    axes = '["wd"]' if dialect == "aisem" else '["wd", "brightness", "contrast"]'
    return f"""[watch]
directory = "watch"
layout = "{layout}"
rescan_s = 0.2
quiet_s = 0.05
[actions]
directory = "actions"
lifetime_s = 3600
[state]
directory = "state"
[link]
port = {port}
dialect = "{dialect}"
most_commands_per_minute = 100000
confirm_timeout_s = 3600
[control]
axes = {axes}
[limits]
wd_mm = [3.0, 20.0]
"""
