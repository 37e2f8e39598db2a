"""`health.json`: the daemon's state, written every second, and the verdict of `semd health` on it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from semd.config import Config, HealthConfig
from semd.daemon.health_probes import free_mb
from semd.errors import LedgerDamagedError, ModelError, StorageError
from semd.middle_client.abort import AbortFile
from semd.model_store import Runtime, default_directory, load_model, load_runtime
from semd.outbox.damage import damage_standing
from semd.service.failpoints import Failpoint
from semd.service.storage import WritePoints, write_atomically

HEALTH_POINTS = WritePoints(Failpoint.DAEMON_HEALTH)
HEALTH_FILE = "health.json"
CLIENT_HEALTH_FILE = "middle-client-health.json"


@dataclass(frozen=True, slots=True)
class DaemonHealth:
    """A snapshot of the daemon.

    Attributes:
        written_at, started_at: seconds since the epoch.
        pid: of the daemon.
        watching: True where events can come in (the scan goes on without them).
        unheard_frames: frames in a row that no event announced, though the watch seems in place.
        directory_ok: True where the watch directory could be scanned.
        scan_age_s: time since the last look at the watch directory that succeeded.
        storage_ok: True where the last write to ledger or action directory went through.
        waiting: frames seen but not yet complete, or not yet answered.
        queue_growing_s: for how long their number has been rising.
        answered, quarantined: since the start.
        last_frame: stem of the last frame answered.
        last_status: how it was answered.
        memory_mb: largest resident memory so far, where the system counts it.
        models: digest of the models in use.
        models_unchanged: True where the files that were verified on loading are still on disk.
        disk_free_mb: room on the disks of the directories named.
        unreadable: frames waiting because a file of theirs cannot be read.
        failed_in_a_row: number of frames answered last, one after the other, that the machines failed on.
    """

    written_at: float
    started_at: float
    pid: int
    watching: bool
    unheard_frames: int
    directory_ok: bool
    scan_age_s: float
    storage_ok: bool
    waiting: int
    queue_growing_s: float
    answered: int
    quarantined: int
    last_frame: str | None
    last_status: str | None
    memory_mb: float | None
    models: str
    models_unchanged: bool
    disk_free_mb: dict[str, float]
    unreadable: int = 0
    failed_in_a_row: int = 0


@dataclass(frozen=True, slots=True)
class HealthReport:
    """Verdict of `semd health`.

    Attributes:
        healthy: True where there is no reason against it.
        reasons: what is wrong.
        daemon, middle_client: what they said of themselves, or None.
        notes: what is as it was asked to be, and yet worth knowing.
    """

    healthy: bool
    reasons: list[str]
    daemon: dict[str, object] | None = None
    middle_client: dict[str, object] | None = None
    notes: list[str] = field(default_factory=list)


def write_health(directory: Path, health: DaemonHealth) -> None:
    """Replace health.json in one step. Not synced to disk: after a power cut it is stale anyway."""
    write_atomically(directory / HEALTH_FILE, json.dumps(asdict(health)).encode(), durable=False, points=HEALTH_POINTS)


def check_health(config: Config, now_s: float) -> HealthReport:
    """Judge both processes by their last state, the model files, and the free space on the disks.

    Args:
        config: names the directories, the models and what is tolerated.
        now_s: seconds since the epoch.
    """
    state, tolerated = config.state.directory, config.health
    reasons: list[str] = []
    daemon = _read(state / HEALTH_FILE, "daemon", now_s, tolerated.max_silence_s, reasons)
    client = _read(state / CLIENT_HEALTH_FILE, "middle client", now_s, tolerated.max_silence_s, reasons)
    if daemon is not None:
        reasons += _judge_daemon(daemon, tolerated)
    if client is not None:
        reasons += _judge_client(client, tolerated)
    aborted = AbortFile(config.actions.directory, config.actions.abort_file).standing()
    if aborted is not None:
        reasons.append(f"aborted, nothing is sent: {aborted}; `semd abort --clear` ends it")
    reasons += _judge_ledger(state)
    reasons += _judge_models(config.models.directory or default_directory(), config.scoring.runtime)
    reasons += _judge_disks({"state": state, "actions": config.actions.directory}, tolerated.min_free_mb)
    is_dry = client is not None and client.get("dry_run") is True
    notes = ["a dry run: actions are filed away and never sent"] if is_dry else []
    return HealthReport(not reasons, reasons, daemon, client, notes)


def _judge_daemon(daemon: dict[str, object], tolerated: HealthConfig) -> list[str]:
    reasons: list[str] = []
    if not daemon.get("directory_ok"):
        reasons.append("the watch directory cannot be scanned")
    if not daemon.get("storage_ok"):
        reasons.append("ledger or action directory cannot be written")
    if not daemon.get("watching"):
        reasons.append("no events from the watch directory (the scan goes on)")
    unheard = _number(daemon, "unheard_frames")
    if unheard >= tolerated.max_unheard_frames:
        reasons.append(
            f"the last {unheard:.0f} frames came without any event: the emitter is stuck (the scan goes on); "
            'restart the daemon, or set [watch] observer = "polling"'
        )
    scan_age_s = _number(daemon, "scan_age_s")
    if scan_age_s > tolerated.max_scan_age_s:
        reasons.append(f"the watch directory was last scanned {scan_age_s:.0f} s ago")
    waiting, growing_s = _number(daemon, "waiting"), _number(daemon, "queue_growing_s")
    if waiting > tolerated.max_waiting:
        reasons.append(f"{waiting:.0f} frames are waiting")
    if growing_s > tolerated.max_queue_growth_s:
        reasons.append(f"the queue has been growing for {growing_s:.0f} s, to {waiting:.0f} frames")
    unreadable = _number(daemon, "unreadable")
    if unreadable:
        reasons.append(f"of {unreadable:.0f} frames a file cannot be read: rights, or a program that holds it")
    failed = _number(daemon, "failed_in_a_row")
    if failed:
        reasons.append(f"the scoring or the control machine failed on the last {failed:.0f} frames; the log says how")
    if not daemon.get("models_unchanged", True):
        reasons.append("model files were changed since the daemon verified and loaded them: restart it")
    return reasons


def _judge_client(client: dict[str, object], tolerated: HealthConfig) -> list[str]:
    reasons: list[str] = []
    if not client.get("link_up") and client.get("dry_run") is not True:
        reasons.append("the link to the microscope is down")
    if client.get("trouble"):
        reasons.append(f"the middle client cannot go on: {client['trouble']}")
    pending = _number(client, "pending")
    if pending > tolerated.max_pending:
        reasons.append(f"{pending:.0f} actions wait for the microscope")
    return reasons


def _judge_ledger(state: Path) -> list[str]:
    try:
        standing = damage_standing(state)
    except StorageError as error:
        return [f"whether the ledger is damaged is unknown: {error}"]
    return [f"{LedgerDamagedError.code}: {standing}"] if standing is not None else []


def _judge_models(directory: Path, runtime: Runtime) -> list[str]:
    """Verify the files on disk against the manifest, as the next start of the daemon will."""
    try:
        load_model(directory, "scorer")
        load_model(directory, "actor")
        if runtime != "torch":
            load_runtime(directory, runtime)
    except ModelError as error:
        return [f"a model is unverified: {error}"]
    return []


def _judge_disks(directories: dict[str, Path], min_free_mb: float) -> list[str]:
    found = free_mb(directories)
    reasons = [f"the room on the disk of {directories[name]} is unknown" for name in directories.keys() - found.keys()]
    for name, mb in found.items():
        if mb < min_free_mb:
            reasons.append(f"the disk of {directories[name]} is nearly full: {mb:.0f} MB are free")
    return reasons


def _read(path: Path, who: str, now_s: float, max_silence_s: float, reasons: list[str]) -> dict[str, object] | None:
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        reasons.append(f"the {who} has never run here ({path} is missing)")
        return None
    except (OSError, ValueError) as error:
        reasons.append(f"{path} cannot be read: {error}")
        return None
    if not isinstance(values, dict):
        reasons.append(f"{path} is not an object")
        return None
    age_s = now_s - _number(values, "written_at")
    if age_s > max_silence_s or not _alive(values.get("pid")):
        reasons.append(f"the {who} has not been heard of for {age_s:.0f} s")
    elif age_s < -max_silence_s:  # it writes every second, whatever the time is
        reasons.append(f"the {who} was last heard of {-age_s:.0f} s ahead of this clock, which was set back since")
    return values


def _number(values: dict[str, object], key: str) -> float:
    """Number from a snapshot; 0 where an older version did not write it."""
    value = values.get(key)
    return float(value) if isinstance(value, int | float) else 0.0


def _alive(pid: object) -> bool:
    """Return True if a process of this number runs; on Windows the file's age alone tells."""
    if os.name == "nt" or not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
