"""Daemon and Middle Client as child processes of the soak: start, sample, kill, stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from semd.errors import StorageError

DAEMON, CLIENT = "daemon", "middle client"
_GRACE_S = 30.0


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """A process at one moment.

    Attributes:
        at_s: time since the start of the soak.
        ended: number of frames that had ended.
        process: `daemon` or `middle client`.
        pid: process id; changes after a kill.
        resident_mb: resident memory.
        handles: number of open files and sockets.
        threads: number of threads.
        ledger_bytes: size of the ledger with its write-ahead log.
    """

    at_s: float
    ended: int
    process: str
    pid: int
    resident_mb: float
    handles: int
    threads: int
    ledger_bytes: int


@dataclass(slots=True)
class SoakProcesses:
    """Both processes on one configuration.

    Attributes:
        config: the configuration file.
        kills: number of processes killed on purpose.
    """

    config: Path
    kills: int = 0
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, process: str) -> None:
        """Start a process; the daemon runs with stand-ins for the networks."""
        arguments = {
            DAEMON: ["-m", "semd.campaigns.constant_daemon", str(self.config)],
            CLIENT: ["-m", "semd", "middle-client", "--config", str(self.config)],
        }[process]
        with self._errors(process).open("ab") as errors:
            self._running[process] = subprocess.Popen(  # noqa: S603
                [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=errors
            )

    def kill(self, process: str) -> None:
        """Kill a process, as a power failure does, and start it again."""
        self._running[process].kill()
        self._running[process].wait()
        self.kills += 1
        self.start(process)

    def check(self) -> None:
        """Check that both processes run.

        Raises:
            StorageError: a process has ended; the message holds its last output.
        """
        for process, child in self._running.items():
            status = child.poll()
            if status is not None:
                said = self._errors(process).read_text("utf-8", "replace").strip()[-500:]
                raise StorageError(f"the {process} ended with status {status}: {said or 'it said nothing'}")

    def sample(self, at_s: float, ended: int, ledger: Path) -> list[ProcessSample]:
        """Sample both processes from /proc."""
        n_bytes = sum(path.stat().st_size for path in ledger.parent.glob(f"{ledger.name}*") if path.exists())
        found = []
        for process, child in self._running.items():
            here = Path("/proc") / str(child.pid)
            try:
                pages = int((here / "statm").read_text("ascii").split()[1])
                handles, threads = len(os.listdir(here / "fd")), len(os.listdir(here / "task"))  # noqa: PTH208
            except (FileNotFoundError, ProcessLookupError, IndexError):
                continue  # it has just ended; `check` raises the error
            resident_mb = round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 2)
            found.append(
                ProcessSample(round(at_s, 2), ended, process, child.pid, resident_mb, handles, threads, n_bytes)
            )
        return found

    def stop(self) -> None:
        """Stop both processes; kill a process that does not end in time."""
        for child in self._running.values():
            child.send_signal(signal.SIGTERM)
        for child in self._running.values():
            try:
                child.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._running.clear()

    def _errors(self, process: str) -> Path:
        return self.config.parent / f"{process.replace(' ', '-')}.errors"
