"""Rejected frames on their way to quarantine: names that file systems refuse, and the same frame twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from semd.daemon.answering import Answerer
from semd.daemon.frame_files import FrameFolders
from semd.errors import ParameterMissingError
from semd.inbox.frame import RejectedFrame
from semd.outbox.ledger import Ledger
from semd.outbox.rows import LedgerRow
from semd.outbox.spool import Spool
from semd.pipeline import Pipeline

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class RejectingAnswerer:
    """An answerer that is only ever asked to reject."""

    def __init__(self, root: Path, ledger: Ledger, *, single: bool) -> None:
        self.watched = root / "watched"
        self.quarantine = root / "quarantine"
        self.archive = root / "archive"
        self.watched.mkdir(exist_ok=True)
        self.answerer = Answerer(
            Pipeline(scorer=None, policy=None, rules=None, models_digest=""),  # type: ignore[arg-type]
            ledger,
            Spool(root / "actions"),
            FrameFolders(self.archive if single else None, self.quarantine),
            lifetime=timedelta(seconds=60),
            now=lambda: NOW,
            reload=self.never,
        )

    @staticmethod
    def never(row: LedgerRow) -> object:
        raise AssertionError(row)

    def reject(self, stem: str, text: bytes) -> None:
        path = self.watched / f"{stem}.txt"
        path.write_bytes(text)
        error = ParameterMissingError("WD is missing")
        rejection = RejectedFrame(stem, None, path, None, f"{text.hex():0<64}", error)
        self.answerer.reject(rejection, ((path.name, len(text), 0, 0),))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite", now=lambda: NOW) as ledger:
        yield ledger


@pytest.mark.parametrize("stem", ["a" * 250, "주" * 83, "a" * 180 + "." * 60])
def test_the_longest_names_find_room_in_quarantine(tmp_path: Path, ledger: Ledger, stem: str) -> None:
    rejecting = RejectingAnswerer(tmp_path, ledger, single=False)
    rejecting.reject(stem, b"MAG=1\n")
    names = sorted(path.name for path in rejecting.quarantine.iterdir())
    assert list(rejecting.watched.iterdir()) == []
    assert len(names) == 2
    assert names[0].endswith(".txt")
    assert names[1] == f"{names[0]}.reason.txt"
    assert ledger.unfinished() == []


def test_the_same_bad_pair_saved_again_is_taken_away_too(tmp_path: Path, ledger: Ledger) -> None:
    rejecting = RejectingAnswerer(tmp_path, ledger, single=True)
    for _ in range(3):
        rejecting.reject("ResponseImage", b"MAG=1\n")
        assert list(rejecting.watched.iterdir()) == []  # or NanoStation waits for ever
    assert rejecting.answerer.quarantined == 1


def test_different_bad_texts_under_one_name_are_both_kept(tmp_path: Path, ledger: Ledger) -> None:
    rejecting = RejectingAnswerer(tmp_path, ledger, single=True)
    rejecting.reject("ResponseImage", b"MAG=1\n")
    rejecting.reject("ResponseImage", b"MAG=2\n")
    kept = {path.read_bytes() for path in rejecting.quarantine.glob("*~ResponseImage.txt")}
    assert kept == {b"MAG=1\n", b"MAG=2\n"}
