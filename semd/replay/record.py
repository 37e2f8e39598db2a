"""`semd record`: copies of the frames the daemon has answered, in the order it answered them.

The copies are named `<SEQ>~<stem>.<suffix>`, as in the archive: the order survives, and so does the stem, which
is part of every action's id.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from semd.config import Config
from semd.errors import DatasetError
from semd.outbox.ledger import Ledger
from semd.outbox.rows import LedgerRow


def record_frames(config: Config, out: Path) -> dict[str, int]:
    """Copy every answered frame whose files are still there.

    Raises:
        DatasetError: `out` exists already, there is no ledger, or a copy fails.
    """
    path = config.state.directory / "ledger.sqlite"
    if not path.exists():
        raise DatasetError(f"{path}: no ledger; the daemon has never run with this configuration")
    if out.exists():
        raise DatasetError(f"{out} exists already; name a new folder")
    with Ledger(path, now=lambda: datetime.now(UTC)) as ledger:
        rows = ledger.answered()
    missing = 0
    try:
        out.mkdir(parents=True)
        for row in rows:
            files = _files(row, config.watch.directory)
            if not all(file.exists() for file in files):
                missing += 1
                continue
            for file in files:
                shutil.copy2(file, out / f"{row.seq:08d}~{file.name.rpartition('~')[2]}")
    except OSError as error:
        raise DatasetError(f"{error.filename}: cannot be copied to {out}: {error.strerror}") from error
    return {"frames": len(rows) - missing, "missing": missing}


def _files(row: LedgerRow, watch: Path) -> list[Path]:
    if row.moves:
        return [Path(move.target) for move in row.moves]
    return [watch / name for name in (row.image_name, row.text_name) if name is not None]
