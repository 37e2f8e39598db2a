"""From a decided row to its action file, the first time and after a crash: the same steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from semd.errors import ActionTextError, LedgerError
from semd.outbox.ledger import Ledger
from semd.outbox.rows import LedgerRow, RowState
from semd.outbox.spool import Spool
from semd.protocol.action import MAX_MESSAGE_BYTES, Action, decode_action
from semd.service.failpoints import Failpoint, reach
from semd.service.storage import storage_error


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
        LedgerError: the row is not decided, `build` made the action of another row, or the file found is not ours.
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
        if (action.seq, action.id) != (row.seq, row.id):
            raise LedgerError(f"{path}: holds the action of SEQ {action.seq}: move it away, it is written anew")
    reach(Failpoint.ACTION_DURABLE)
    ledger.published(row.seq, action.issued, action.expires)
    reach(Failpoint.PUBLISHED)
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
        return _decode(path)
    except FileNotFoundError:
        moved = spool.locate(path.name)
        if moved is None:
            raise LedgerError(f"{path}: was there and is gone; nobody is meant to delete actions") from None
        path = moved
    except OSError as error:
        raise storage_error(path, "read", error) from error
    try:
        return _decode(path)
    except OSError as error:
        raise storage_error(path, "read", error) from error


def _decode(path: Path) -> Action:
    """Read no more than an action can have: what lies under its name may have been put there by anybody."""
    with path.open("rb") as file:
        data = file.read(MAX_MESSAGE_BYTES + 1)
    try:
        return decode_action(data)
    except ActionTextError as error:
        raise LedgerError(f"{path}: no action of ours ({error.message}): move it away, it is written anew") from error
