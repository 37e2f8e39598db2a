"""`health.json`: what the daemon says of itself every second, and how it is judged."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from semd.storage import write_atomically

HEALTH_FILE = "health.json"
CLIENT_HEALTH_FILE = "middle-client-health.json"
STALE_S = 10.0


@dataclass(frozen=True, slots=True)
class DaemonHealth:
    """A snapshot of the daemon.

    Attributes:
        written_at: seconds since the epoch.
        pid: of the daemon.
        watching: whether events come in (the scan goes on without them).
        directory_ok: whether the watch directory could be scanned.
        storage_ok: whether the last write to ledger or action directory went through.
        waiting: frames seen but not yet complete.
        answered, quarantined: since the start.
        last_frame: stem of the last frame answered.
        last_status: how it was answered.
        memory_mb: largest resident memory so far, where the system counts it.
    """

    written_at: float
    pid: int
    watching: bool
    directory_ok: bool
    storage_ok: bool
    waiting: int
    answered: int
    quarantined: int
    last_frame: str | None
    last_status: str | None
    memory_mb: float | None


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The judgement of `semd health`."""

    healthy: bool
    reasons: list[str]
    daemon: dict[str, object] | None = None
    middle_client: dict[str, object] | None = None


def write_health(directory: Path, health: DaemonHealth) -> None:
    """Replace health.json in one step. Not synced to disk: after a power cut it is stale anyway."""
    write_atomically(directory / HEALTH_FILE, json.dumps(asdict(health)).encode(), durable=False)


def check_health(directory: Path, now_s: float) -> HealthReport:
    """Judge what both processes last said of themselves.

    Args:
        directory: the state directory.
        now_s: seconds since the epoch.
    """
    reasons: list[str] = []
    daemon = _read(directory / HEALTH_FILE, "daemon", now_s, reasons)
    client = _read(directory / CLIENT_HEALTH_FILE, "middle client", now_s, reasons)
    if daemon is not None:
        if not daemon.get("directory_ok"):
            reasons.append("the watch directory cannot be scanned")
        if not daemon.get("storage_ok"):
            reasons.append("ledger or action directory cannot be written")
        if not daemon.get("watching"):
            reasons.append("no events from the watch directory (the scan goes on)")
    if client is not None and not client.get("link_up"):
        reasons.append("the link to the microscope is down")
    return HealthReport(not reasons, reasons, daemon, client)


def _read(path: Path, who: str, now_s: float, reasons: list[str]) -> dict[str, object] | None:
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
    age_s = now_s - float(values.get("written_at", 0.0))
    if age_s > STALE_S or not _alive(values.get("pid")):
        reasons.append(f"the {who} has not been heard of for {age_s:.0f} s")
    return values


def _alive(pid: object) -> bool:
    """Whether a process of this number runs; on Windows the file's age alone tells."""
    if os.name == "nt" or not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
