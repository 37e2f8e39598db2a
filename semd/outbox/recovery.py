"""From a decided row to its action file, the first time and after a crash: the same steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from semd.domain.action import Action, decode_action
from semd.errors import LedgerError
from semd.outbox.ledger import Ledger
from semd.outbox.rows import LedgerRow, RowState
from semd.outbox.spool import Spool
from semd.storage import storage_error


def publish_row(ledger: Ledger, spool: Spool, row: LedgerRow, build: Callable[[LedgerRow], Action]) -> Path:
    """See to it that a decided row has its one action file, and mark it published.

    A file that is found, wherever the Middle Client has put it, is not written again. One that is found
    nowhere is written with a new stamp: the old one was never seen by anybody.

    Args:
        ledger: where the row is from.
        spool: where the file goes.
        row: in state DECIDED.
        build: makes the action of a row, stamped with the present time.

    Returns:
        Where the file was when last seen.

    Raises:
        LedgerError: the row is not decided, or `build` made the action of another row.
        StorageError: the file cannot be written or read.
    """
    if row.state is not RowState.DECIDED or row.seq is None or row.id is None:
        raise LedgerError(f"row {row.row} is {row.state}, not DECIDED")
    path = spool.locate(f"action-{row.seq:08d}-{row.id}.txt")
    if path is None:
        action = build(row)
        if (action.seq, action.id) != (row.seq, row.id):
            raise LedgerError(f"row {row.row}: the action built for it is that of SEQ {action.seq}")
        path = spool.publish(action)
    else:
        action = _read(spool, path)
    ledger.published(row.seq, action.issued, action.expires)
    return path


def recover(ledger: Ledger, spool: Spool, build: Callable[[LedgerRow], Action]) -> int:
    """Publish what a crash left decided, in the order of SEQ; returns how many rows there were."""
    rows = [row for row in ledger.unfinished() if row.state is RowState.DECIDED]
    for row in rows:
        publish_row(ledger, spool, row, build)
    return len(rows)


def _read(spool: Spool, path: Path) -> Action:
    """Read a published file, which the Middle Client may be moving just now."""
    try:
        return decode_action(path.read_bytes())
    except FileNotFoundError:
        moved = spool.locate(path.name)
        if moved is None:
            raise LedgerError(f"{path}: was there and is gone; nobody is meant to delete actions") from None
        path = moved
    except OSError as error:
        raise storage_error(path, "read", error) from error
    try:
        return decode_action(path.read_bytes())
    except OSError as error:
        raise storage_error(path, "read", error) from error
