"""Actions, action files, pending actions and gates for the tests of the outbox and the Middle Client."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from semd.domain.axes import Axis
from semd.middle_client.abort import AbortFile
from semd.middle_client.action_folder import ActionFolder
from semd.middle_client.audit import AuditTrail
from semd.middle_client.clock import Clock
from semd.middle_client.gate import Gate, RateLimit
from semd.middle_client.journal import Journal
from semd.middle_client.pending import PendingActions
from semd.protocol.action import Action, Status, encode_action
from semd.protocol.instrument_profile import GENERIC, InstrumentProfile

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make_action(
    seq: int = 1,
    *,
    status: Status = Status.ADJUST,
    wd_mm: float = 9.0,
    delta_mm: float = 0.1,
    exposure: dict[Axis, tuple[float, float]] | None = None,
    lifetime_s: float = 60.0,
    issued: datetime = START,
) -> Action:
    targets = {Axis.WD: wd_mm} | {axis: pair[0] for axis, pair in (exposure or {}).items()}
    deltas = {Axis.WD: delta_mm} | {axis: pair[1] for axis, pair in (exposure or {}).items()}
    return Action(
        id=f"{seq:032x}",
        seq=seq,
        frame=f"frame-{seq}",
        status=status,
        magnification=2000.0,
        targets=targets,
        deltas=deltas,
        score=5.0,
        reward=None,
        step=0,
        issued=issued,
        expires=issued + timedelta(seconds=lifetime_s),
    )


def drop_file(directory: Path, action: Action) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / action.file_name
    # As the daemon does: a process that runs beside the test must not find half of it.
    unfinished = directory.parent / f"{action.file_name}.unfinished"
    unfinished.write_bytes(encode_action(action))
    unfinished.rename(path)
    return path


def places(directory: Path) -> dict[str, list[int]]:
    """SEQ of the action files in each folder that has any; pending ones under the empty name."""
    found: dict[str, list[int]] = {}
    for path in sorted(directory.rglob("action-*.txt")):
        where = path.parent.relative_to(directory).as_posix().removeprefix(".")
        found.setdefault(where, []).append(int(path.name.split("-")[1]))
    return found


def make_pending(
    directory: Path, clock: Clock, profile: InstrumentProfile = GENERIC, rate: RateLimit | None = None
) -> PendingActions:
    """The pending actions of a new process; journal and trail lie beside the action directory."""
    beside = directory.parent
    journal = Journal(beside / "middle-client.json")
    trail = AuditTrail(beside / "audit", clock)
    rate = rate or RateLimit(600, clock)
    return PendingActions(ActionFolder(directory), journal, clock, trail=trail, profile=profile, rate=rate)


def make_gate(directory: Path, clock: Clock, most_per_minute: int = 600) -> Gate:
    return Gate(AbortFile(directory), RateLimit(most_per_minute, clock))
