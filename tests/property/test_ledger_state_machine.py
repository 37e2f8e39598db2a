"""Whatever happens between frames, crashes, rewrites and the Middle Client: each frame ends exactly once."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from semd.domain.axes import Axis
from semd.outbox.ledger import Ledger
from semd.outbox.recovery import publish_row, recover
from semd.outbox.rows import Claim, Fingerprint, LedgerRow, RejectionClaim, RowState
from semd.outbox.spool import SUBFOLDERS, Spool
from semd.protocol.action import Action, Status, decode_action, parse_file_name
from semd.protocol.identity import action_id, digest

NOW = datetime(2026, 1, 2, tzinfo=UTC)
STEMS = st.integers(0, 3).map("frame-{}".format)
CONTENTS = st.binary(max_size=1)


class LedgerMachine(RuleBasedStateMachine):
    """The model: for each (stem, bytes) that was delivered, whether it is good; SEQs in the order seen."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.delivered: dict[tuple[str, bytes], bool] = {}
        self.allotted: list[int] = []
        self.looks = 0
        self.quarantine: list[str] = []

    @initialize()
    def start(self) -> None:
        self.spool = Spool(self.directory / "actions")
        self.ledger = Ledger(self.directory / "ledger", now=lambda: NOW, floor_seq=self.spool.highest_seq())

    @rule(stem=STEMS, content=CONTENTS, steps=st.integers(0, 3))
    def good_frame_arrives(self, stem: str, content: bytes, steps: int) -> None:
        """Answer it; `steps` < 3 leaves it half-way, as a crash would."""
        image = digest(content)
        identity = action_id(stem, image, "text", "model")
        fingerprint = self._looks(stem)
        known = (stem, content) in self.delivered
        seq = self.ledger.claim(Claim(stem, identity, f"{stem}.jpg", f"{stem}.txt", image, "text", fingerprint))
        assert (seq is None) == known
        if seq is None:
            assert self.ledger.set_fingerprint(stem, image, "text", fingerprint)
        else:
            self.delivered[stem, content] = True
            self.allotted.append(seq)
            if steps > 0:
                self._decide(seq)
            if steps > 1:
                row = next(row for row in self.ledger.unfinished() if row.seq == seq)
                if steps > 2:
                    publish_row(self.ledger, self.spool, row, self._build)
                else:
                    self.spool.publish(self._build(row))
            if steps < 3:
                self.crash_and_restart()
        assert self.ledger.knows(fingerprint)

    @rule(stem=STEMS, content=CONTENTS, is_finished=st.booleans())
    def bad_frame_arrives(self, stem: str, content: bytes, is_finished: bool) -> None:
        content = b"bad" + content
        row = self.ledger.reject(
            RejectionClaim(stem, f"{stem}.jpg", None, digest(content), None, self._looks(stem), "SEMD-F01", "bad", ())
        )
        assert (row is None) == ((stem, content) in self.delivered)
        if row is not None:
            self.delivered[stem, content] = False
            if is_finished:
                self._quarantine(row, stem + content.hex())
            else:
                self.crash_and_restart()

    @rule()
    def crash_and_restart(self) -> None:
        self.ledger.close()
        self.start()
        for row in self.ledger.unfinished():
            if row.state is RowState.TAKEN:
                assert row.seq is not None
                self._decide(row.seq)
            elif row.state is RowState.QUARANTINING:
                self._quarantine(row.row, f"{row.stem}:{row.image_digest}")
        recover(self.ledger, self.spool, self._build)
        assert self.ledger.unfinished() == []

    @precondition(lambda self: list((self.directory / "actions").glob("action-*")))
    @rule(folder=st.sampled_from(SUBFOLDERS), data=st.data())
    def middle_client_moves_one(self, folder: str, data: st.DataObject) -> None:
        pending = sorted((self.directory / "actions").glob("action-*"))
        path = data.draw(st.sampled_from(pending))
        (path.parent / folder).mkdir(exist_ok=True)
        path.rename(path.parent / folder / path.name)

    @invariant()
    def every_frame_ended_once(self) -> None:
        actions = [decode_action(path.read_bytes()) for path in (self.directory / "actions").rglob("action-*")]
        good = {
            action_id(stem, digest(content), "text", "model")
            for (stem, content), is_good in self.delivered.items()
            if is_good
        }
        assert sorted(action.id for action in actions) == sorted(good)
        assert sorted(action.seq for action in actions) == sorted(self.allotted)
        assert len(self.quarantine) == len(self.delivered) - len(good)
        assert self.ledger.counts()["QUARANTINED"] == len(self.quarantine)

    @invariant()
    def seq_rises_and_is_never_reused(self) -> None:
        assert all(earlier < later for earlier, later in zip(self.allotted, self.allotted[1:], strict=False))
        names = [path.name for path in (self.directory / "actions").rglob("action-*")]
        assert len({parse_file_name(name) for name in names}) == len(names)

    def teardown(self) -> None:
        self.ledger.close()
        shutil.rmtree(self.directory)

    def _looks(self, stem: str) -> Fingerprint:
        self.looks += 1
        return ((f"{stem}.jpg", 10, self.looks), (f"{stem}.txt", 10, self.looks))

    def _decide(self, seq: int) -> None:
        self.ledger.decide(seq, "{}", "{}", starts_run=False, is_hold=False)

    def _quarantine(self, row: int, name: str) -> None:
        self.quarantine.append(name)
        self.ledger.quarantined(row)

    @staticmethod
    def _build(row: LedgerRow) -> Action:
        assert row.seq is not None
        assert row.id is not None
        return Action(
            id=row.id,
            seq=row.seq,
            frame=row.stem,
            status=Status.ADJUST,
            magnification=500.0,
            targets={Axis.WD: 9.0},
            deltas={Axis.WD: 0.0},
            score=1.0,
            reward=None,
            step=0,
            issued=NOW,
            expires=NOW + timedelta(seconds=60),
        )


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(
    max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)  # fmt: skip
