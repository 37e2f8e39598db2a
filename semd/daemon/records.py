"""The ledger's JSON columns: records become text here, and text becomes records."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from semd.decision.run import Decision, Run, advance
from semd.domain.observation import Observation
from semd.errors import LedgerDamagedError, LedgerError
from semd.outbox.rows import LedgerRow
from semd.pipeline import make_action
from semd.protocol.action import Action

_Record = TypeVar("_Record")
_OBSERVATION = TypeAdapter(Observation)
_DECISION = TypeAdapter(Decision)
_STORED_NAMES = {"flags": "doubts"}
"""Names of a measurement's fields in the ledger, where they differ."""


def observation_to_json(observation: Observation) -> str:
    """Write an observation; floats are kept exactly."""
    record = _OBSERVATION.dump_python(observation, mode="json")
    measurement = record["measurement"]
    if measurement is not None:
        # The ledger keeps the spelling that it began with.
        record["measurement"] = {_STORED_NAMES.get(name, name): value for name, value in measurement.items()}
    return to_json(record, inf_nan_mode="null").decode()


def observation_from_json(text: str | bytes) -> Observation:
    """Read an observation back.

    Raises:
        LedgerDamagedError: it is none.
    """
    try:
        record = from_json(text)
    except ValueError as error:
        raise LedgerDamagedError(f"a row of the ledger holds no record: {error}") from error
    measurement = record.get("measurement") if isinstance(record, dict) else None
    if isinstance(measurement, dict):
        names = {stored: name for name, stored in _STORED_NAMES.items()}
        record["measurement"] = {names.get(name, name): value for name, value in measurement.items()}
    return _read(_OBSERVATION, to_json(record))


def decision_to_json(decision: Decision) -> str:
    """Write a decision; floats are kept exactly."""
    return _DECISION.dump_json(decision).decode()


def decision_from_json(text: str | bytes) -> Decision:
    """Read a decision back.

    Raises:
        LedgerDamagedError: it is none.
    """
    return _read(_DECISION, text)


def rebuild_run(rows: list[tuple[str, str]]) -> Run | None:
    """Rebuild the run after these frames and answers; None when there are none.

    Raises:
        LedgerDamagedError: one of them cannot be read.
    """
    run: Run | None = None
    for observation, decision in rows:
        run = advance(run, observation_from_json(observation), decision_from_json(decision))
    return run


def action_of(row: LedgerRow, now: datetime, lifetime: timedelta) -> Action:
    """Make the action of a decided row, stamped with the present time.

    Raises:
        LedgerError: the row holds no decision.
    """
    if row.seq is None or row.id is None or row.observation_json is None or row.decision_json is None:
        raise LedgerError(f"row {row.row} ({row.stem}) is {row.state} and holds no decision")
    observation, decision = observation_from_json(row.observation_json), decision_from_json(row.decision_json)
    return make_action(row.id, row.seq, observation, decision, now, lifetime)


def _read(kind: TypeAdapter[_Record], text: str | bytes) -> _Record:
    try:
        return kind.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise LedgerDamagedError(f"a row of the ledger holds no record ({where}: {first['msg'][:200]})") from error
