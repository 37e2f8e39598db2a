"""`semd evaluate soak`: daemon and Middle Client under sustained load, with faulty frames, link faults and kills."""

from __future__ import annotations

import random
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from semd.campaigns.soak.processes import CLIENT, DAEMON, ProcessSample, SoakProcesses
from semd.campaigns.soak.soak_report import SoakReport, growth_of
from semd.campaigns.soak.soak_sem import HEIGHT_PX, WIDTH_PX, SoakSem
from semd.daemon.daemon_process import LEDGER_FILE
from semd.errors import ConfigError, StorageError
from semd.simulator.fault_plan import FaultPlan
from semd.simulator.faulty_link import RECOVERED_FAULTS, FaultySemLink, LinkFault

_LOOK_S = 0.02
_MEMORY_DISK = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
_BYTES_PER_FRAME = 12_000
"""Disk space of a frame: one block for its action file, the rest for its ledger rows and log lines."""


@dataclass(frozen=True, slots=True)
class SoakSpec:
    """Settings of the campaign.

    Attributes:
        frames: number of frames to save.
        seed: seed of images and faults.
        writer_faults: share of the pairs that are saved with a fault.
        link_faults: share of the messages that the SEM answers with a fault.
        kills: number of kills, of daemon and Middle Client in turns.
        window: largest number of frames in flight.
        sample_s: interval between two samples of the processes.
        patience_s: time without an ended frame after which the soak stops.
        directory: directory of the soak; None for a temporary one, in memory if there is room.
    """

    frames: int
    seed: int = 0
    writer_faults: float = 0.01
    link_faults: float = 0.002
    kills: int = 0
    window: int = 24
    sample_s: float = 1.0
    patience_s: float = 120.0
    directory: Path | None = None


def run_soak(spec: SoakSpec, progress: Callable[[int], None]) -> SoakReport:
    """Run a soak; after Ctrl+C the report covers the frames until then.

    Args:
        spec: settings of the soak.
        progress: called with the number of frames that have ended.

    Raises:
        ConfigError: the system has no /proc, or the directory is not empty.
        StorageError: a process ended unexpectedly.
    """
    if not Path("/proc/self/statm").exists():
        raise ConfigError("the soak reads memory, handles and threads from /proc, which this system does not have")
    with _directory(spec) as directory, socket.create_server(("127.0.0.1", 0)) as listener:
        config = _write_config(directory, listener.getsockname()[1])
        sem = SoakSem(
            directory / "watch", directory / "state" / "quarantine", spec.seed, spec.writer_faults, spec.window
        )
        plan = FaultPlan(
            share=spec.link_faults,
            kinds=RECOVERED_FAULTS["text"],
            rng=random.Random(spec.seed + 1),  # noqa: S311 - no secret
        )
        link = FaultySemLink(sem, sem.stopping.is_set, plan=plan, pause=sem.stopping.wait)
        children = SoakProcesses(config)
        work = [
            threading.Thread(target=link.serve, args=(listener, "text"), name="link"),
            threading.Thread(target=sem.write, args=(spec.frames,), name="writer"),
        ]
        children.start(DAEMON)
        children.start(CLIENT)
        watcher = _Watcher(spec, sem, children, directory / "state" / LEDGER_FILE)
        try:
            for thread in work:
                thread.start()
            watcher.watch(progress)
        finally:
            sem.stopping.set()
            children.stop()
            for thread in work:
                thread.join()
        sem.look()
        return _report(spec, sem, plan, watcher, children.kills)


def _report(spec: SoakSpec, sem: SoakSem, plan: FaultPlan[LinkFault], watcher: _Watcher, kills: int) -> SoakReport:
    return SoakReport(
        frames=spec.frames,
        fates=sem.fates(),
        seconds=watcher.seconds,
        interrupted=watcher.interrupted,
        stalled=watcher.stalled,
        kills=kills,
        writer_faults={str(fault): count for fault, count in sem.happened.items()},
        link_faults={str(fault): count for fault, count in plan.happened.items()},
        growth=growth_of(watcher.samples, spec.frames),
        samples=tuple(watcher.samples),
    )


class _Watcher:
    """Wait for the frames to end; sample and kill the processes meanwhile."""

    def __init__(self, spec: SoakSpec, sem: SoakSem, children: SoakProcesses, ledger: Path) -> None:
        self._spec = spec
        self._sem = sem
        self._children = children
        self._ledger = ledger
        self.samples: list[ProcessSample] = []
        self.seconds = 0.0
        self.interrupted = False
        self.stalled = ""

    def watch(self, progress: Callable[[int], None]) -> None:
        """Return when every frame has ended, after Ctrl+C, or when no frame has ended for `patience_s`."""
        try:
            self._watch(progress)
        except KeyboardInterrupt:
            self.interrupted = True

    def _watch(self, progress: Callable[[int], None]) -> None:
        spec, sem = self._spec, self._sem
        kills = [spec.frames * (number + 1) // (spec.kills + 1) for number in range(spec.kills)]
        began_s: float | None = None
        moved_s = sampled_s = time.monotonic()
        ended = 0
        while ended < spec.frames:
            time.sleep(_LOOK_S)
            sem.look()
            self._children.check()
            now_s = time.monotonic()
            if sem.ended > ended:
                # Measure the rate from the first ended frame, since the processes load libraries before it.
                began_s = began_s if began_s is not None else now_s
                ended, moved_s = sem.ended, now_s
                self.seconds = now_s - began_s
                progress(ended)
            elif now_s - moved_s > spec.patience_s:
                self.stalled = f"no frame ended for {spec.patience_s:g} s"
                return
            if now_s - sampled_s >= spec.sample_s:
                sampled_s = now_s
                self.samples += self._children.sample(now_s - (began_s or now_s), ended, self._ledger)
            if kills and ended >= kills[0]:
                kills.pop(0)
                self._children.kill((DAEMON, CLIENT)[self._children.kills % 2])


@contextmanager
def _directory(spec: SoakSpec) -> Iterator[Path]:
    if spec.directory is None:
        has_room = _MEMORY_DISK.is_dir() and shutil.disk_usage(_MEMORY_DISK).free > 2 * spec.frames * _BYTES_PER_FRAME
        with tempfile.TemporaryDirectory(prefix="semd-soak-", dir=_MEMORY_DISK if has_room else None) as name:
            yield Path(name)
        return
    try:
        spec.directory.mkdir(parents=True, exist_ok=True)
        if any(spec.directory.iterdir()):
            raise ConfigError(f"{spec.directory}: is not empty: name another --directory")
    except OSError as error:
        raise StorageError(f"{spec.directory}: cannot be used: {error.strerror}") from error
    yield spec.directory


def _write_config(directory: Path, port: int) -> Path:
    for name in ("watch", "actions", "state"):
        (directory / name).mkdir()
    path = directory / "semd.toml"
    path.write_text(
        f"""[watch]
directory = "watch"
rescan_s = 0.5
quiet_s = 0.1
settle_s = 5.0
width_px = {WIDTH_PX}
height_px = {HEIGHT_PX}
[actions]
directory = "actions"
lifetime_s = 86400
[state]
directory = "state"
[link]
port = {port}
answer_timeout_s = 1.0
most_commands_per_minute = 100000
[limits]
wd_mm = [3.0, 20.0]
"""
    )
    return path
