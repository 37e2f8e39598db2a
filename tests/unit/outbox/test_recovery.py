"""A crash at every step from claim to mark leaves exactly one action file after the restart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from harness.outbox import START, make_action, places

from semd.errors import LedgerError
from semd.outbox.ledger import Ledger
from semd.outbox.recovery import publish_row, recover
from semd.outbox.rows import Claim, LedgerRow, RowState
from semd.outbox.spool import Spool
from semd.protocol.action import Action, decode_action, encode_action

STEPS = ["claimed", "decided", "temporary", "synced", "renamed", "published"]


class Crash(BaseException):
    """The process ends here; nothing that would clean up is run on purpose."""


class Daemon:
    """The daemon's steps, with a place to crash after each."""

    def __init__(self, directory: Path) -> None:
        self.spool = Spool(directory / "actions")
        self.ledger = Ledger(directory / "state" / "ledger", now=lambda: START, floor_seq=self.spool.highest_seq())
        self.stamps = 0

    def build(self, row: LedgerRow) -> Action:
        assert row.seq is not None
        self.stamps += 1
        return make_action(row.seq, issued=START + timedelta(seconds=self.stamps))

    def answer(self, number: int, crash_after: str | None = None) -> None:
        claim = Claim(f"frame-{number}", f"{number:032x}", "i", "t", f"image-{number}", "text", (("i", 1, number),))
        seq = self.ledger.claim(claim)
        assert seq is not None
        self._reach("claimed", crash_after)
        self.ledger.decide(seq, "{}", "{}", starts_run=False, is_hold=False)
        self._reach("decided", crash_after)
        row = next(row for row in self.ledger.unfinished() if row.seq == seq)
        with crashing_storage(crash_after):
            publish_row(self.ledger, self.spool, row, self.build)
        self._reach("published", crash_after)

    def finish(self) -> None:
        for row in self.ledger.unfinished():
            if row.state is RowState.TAKEN:
                assert row.seq is not None
                self.ledger.decide(row.seq, "{}", "{}", starts_run=False, is_hold=False)
        recover(self.ledger, self.spool, self.build)

    @staticmethod
    def _reach(step: str, crash_after: str | None) -> None:
        if step == crash_after:
            raise Crash


@contextmanager
def crashing_storage(crash_after: str | None) -> Iterator[None]:
    """Crash inside the write of the action file: before its rename, or after it."""
    with pytest.MonkeyPatch.context() as patch:

        def crash(*_: object) -> None:
            raise Crash

        if crash_after == "temporary":
            patch.setattr("semd.service.storage.os.fsync", crash)
        elif crash_after == "synced":
            patch.setattr("semd.service.storage.rename", crash)
        elif crash_after == "renamed":
            patch.setattr("semd.service.storage.sync_directory", crash)
        yield


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("moved_to", ["", "sent", "expired"])
def test_a_crash_anywhere_leaves_one_file(tmp_path: Path, step: str, moved_to: str) -> None:
    before = Daemon(tmp_path)
    before.answer(1)
    with pytest.raises(Crash):
        before.answer(2, crash_after=step)
    before.ledger.close()
    file = tmp_path / "actions" / make_action(2).file_name
    was_written = file.exists()
    assert was_written == (step in ("renamed", "published"))
    if was_written and moved_to:
        (tmp_path / "actions" / moved_to).mkdir()
        file.rename(tmp_path / "actions" / moved_to / file.name)

    after = Daemon(tmp_path)
    after.finish()
    after.answer(3)

    expected = {"": [1, 2, 3]}
    if was_written and moved_to:
        expected = {"": [1, 3], moved_to: [2]}
    assert places(tmp_path / "actions") == expected
    assert [path.name for path in (tmp_path / "actions").glob(".*")] == []
    assert after.ledger.unfinished() == []
    assert after.ledger.counts()["PUBLISHED"] == 3


def test_an_action_nobody_saw_gets_a_fresh_stamp_and_one_that_was_seen_keeps_its_own(tmp_path: Path) -> None:
    before = Daemon(tmp_path)
    for number, step in ((1, "decided"), (2, "renamed")):
        with pytest.raises(Crash):
            before.answer(number, crash_after=step)
    before.ledger.close()
    seen = decode_action((tmp_path / "actions" / make_action(2).file_name).read_bytes())

    after = Daemon(tmp_path)
    after.stamps = 100
    assert recover(after.ledger, after.spool, after.build) == 2
    issued = [decode_action((tmp_path / "actions" / make_action(seq).file_name).read_bytes()).issued for seq in (1, 2)]
    assert issued == [START + timedelta(seconds=101), seen.issued]


def test_only_a_decided_row_and_its_own_action_are_published(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.ledger.claim(Claim("frame-1", f"{1:032x}", "i", "t", "image", "text", (("i", 1, 1),)))
    (taken,) = daemon.ledger.unfinished()
    with pytest.raises(LedgerError, match="not DECIDED"):
        publish_row(daemon.ledger, daemon.spool, taken, daemon.build)
    daemon.ledger.decide(1, "{}", "{}", starts_run=True, is_hold=False)
    (decided,) = daemon.ledger.unfinished()
    with pytest.raises(LedgerError, match="that of SEQ 9"):
        publish_row(daemon.ledger, daemon.spool, decided, lambda _: make_action(9))
    assert places(tmp_path / "actions") == {}


@pytest.mark.parametrize("content", ["endless", "garbage", "another's"])
def test_what_is_no_action_of_ours_is_named_and_never_read_whole(tmp_path: Path, content: str) -> None:
    before = Daemon(tmp_path)
    with pytest.raises(Crash):
        before.answer(1, crash_after="renamed")
    before.ledger.close()
    file = tmp_path / "actions" / make_action(1).file_name
    if content == "endless":
        with file.open("wb") as sparse:
            sparse.truncate(1 << 40)  # more than any memory
    else:
        file.write_bytes(b"garbage" if content == "garbage" else encode_action(make_action(2)))

    after = Daemon(tmp_path)
    with pytest.raises(LedgerError, match=r"move it away, it is written anew") as caught:
        after.finish()
    assert str(file) in caught.value.message
    file.rename(tmp_path / "elsewhere")
    after.finish()
    assert decode_action(file.read_bytes()).seq == 1
