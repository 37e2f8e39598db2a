"""The ledger's promises: SEQ, exactly once, what a restart finds, and files that are not ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from semd.errors import LedgerDamagedError, LedgerError, StorageError
from semd.outbox.ledger import Ledger
from semd.outbox.rows import Claim, Move, RejectionClaim, RowState

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def open_ledger(path: Path, floor_seq: int = 0) -> Ledger:
    return Ledger(path, now=lambda: NOW, floor_seq=floor_seq)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.sqlite3"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with open_ledger(path) as opened:
        yield opened


def claim(number: int, *, stem: str | None = None, image: str | None = None, **other: object) -> Claim:
    stem = stem or f"frame-{number}"
    fields: dict[str, object] = {
        "stem": stem,
        "id": f"{number:032x}",
        "image_name": f"{stem}.jpg",
        "text_name": f"{stem}.txt",
        "image_digest": image or f"image-{number}",
        "text_digest": f"text-{number}",
        "fingerprint": ((f"{stem}.jpg", 100, number), (f"{stem}.txt", 20, number)),
    }
    return Claim(**{**fields, **other})  # type: ignore[arg-type]


def rejection(number: int = 1) -> RejectionClaim:
    return RejectionClaim(
        stem=f"bad-{number}",
        image_name=f"bad-{number}.jpg",
        text_name=None,
        image_digest=f"bad-image-{number}",
        text_digest=None,
        fingerprint=((f"bad-{number}.jpg", 1, number),),
        reason_code="SEMD-F07",
        reason_text="no text",
        moves=(Move("/watch/bad.jpg", "/quarantine/bad.jpg"),),
    )


def decide(ledger: Ledger, number: int, *, starts_run: bool = False, is_hold: bool = False) -> None:
    seq = ledger.claim(claim(number))
    assert seq is not None
    ledger.decide(seq, f"o{number}", f"d{number}", starts_run=starts_run, is_hold=is_hold)


def test_seq_begins_above_the_floor_and_rises_across_restarts(path: Path) -> None:
    with open_ledger(path, floor_seq=41) as ledger:
        assert [ledger.claim(claim(number)) for number in (1, 2)] == [42, 43]
    with open_ledger(path, floor_seq=7) as ledger:
        assert ledger.claim(claim(3)) == 44
        assert ledger.highest_seq() == 44
    with pytest.raises(LedgerDamagedError, match="committed rows are lost"):
        open_ledger(path, floor_seq=100)


def test_a_frame_is_taken_once(ledger: Ledger) -> None:
    assert ledger.claim(claim(1)) == 1
    assert ledger.claim(claim(1)) is None
    # Another model gives the same files another id; they are the same frame all the same.
    assert ledger.claim(claim(1, id="f" * 32)) is None
    assert ledger.claim(claim(2)) == 2


def test_what_is_known_at_a_glance(ledger: Ledger) -> None:
    ledger.claim(claim(1))
    assert ledger.knows(claim(1).fingerprint)
    assert not ledger.knows(claim(2).fingerprint)
    assert ledger.known_image("frame-1", "image-1")
    assert not ledger.known_image("frame-1", "image-2")
    assert not ledger.known_image("frame-2", "image-1")


def test_an_identical_rewrite_is_known_by_its_new_looks(ledger: Ledger) -> None:
    ledger.claim(claim(1))
    looks = (("frame-1.jpg", 100, 999), ("frame-1.txt", 20, 999))
    assert not ledger.knows(looks)
    assert ledger.set_fingerprint("frame-1", "image-1", "text-1", looks)
    assert ledger.knows(looks)
    assert not ledger.set_fingerprint("frame-9", "image-9", "text-9", looks)


def test_a_rejected_half_does_not_hide_the_whole_pair(ledger: Ledger) -> None:
    row = ledger.reject(rejection())
    assert row is not None
    assert ledger.reject(rejection()) is None
    assert ledger.knows(rejection().fingerprint)
    assert not ledger.known_image("bad-1", "bad-image-1")
    whole = claim(1, stem="bad-1", image="bad-image-1")
    assert ledger.claim(whole) == 1


def test_rows_keep_what_recovery_needs(path: Path) -> None:
    moves = (Move("/watch/ResponseImage.jpg", "/archive/1.jpg"),)
    with open_ledger(path) as ledger:
        ledger.claim(claim(1, moves=moves, reason_code="SEMD-F04", reason_text="ends early"))
        decide(ledger, 2, starts_run=True)
        ledger.reject(rejection())
        decide(ledger, 3)
        ledger.published(3, NOW, NOW)
    with open_ledger(path) as ledger:
        taken, decided, rejected = ledger.unfinished()
    assert (taken.state, taken.seq, taken.moves) == (RowState.TAKEN, 1, moves)
    assert (taken.reason_code, taken.fingerprint) == ("SEMD-F04", claim(1).fingerprint)
    assert (decided.state, decided.observation_json, decided.decision_json) == (RowState.DECIDED, "o2", "d2")
    assert (rejected.state, rejected.seq, rejected.id) == (RowState.QUARANTINING, None, None)
    assert rejected.moves == rejection().moves


def test_states_go_forward_only(ledger: Ledger) -> None:
    decide(ledger, 1)
    with pytest.raises(LedgerError, match="not a taken frame"):
        ledger.decide(1, "", "", starts_run=False, is_hold=False)
    ledger.published(1, NOW, NOW)
    with pytest.raises(LedgerError, match="not a decided frame"):
        ledger.published(1, NOW, NOW)
    with pytest.raises(LedgerError, match="not a taken frame"):
        ledger.abandon(1, "SEMD-F04", "gone")
    row = ledger.reject(rejection())
    assert row is not None
    ledger.quarantined(row)
    with pytest.raises(LedgerError, match="not on its way"):
        ledger.quarantined(row)
    assert ledger.counts() == {
        "TAKEN": 0,
        "DECIDED": 0,
        "PUBLISHED": 1,
        "QUARANTINING": 0,
        "QUARANTINED": 1,
        "highest_seq": 1,
    }


def test_a_frame_whose_files_are_gone_ends_in_quarantine(ledger: Ledger) -> None:
    ledger.claim(claim(1))
    ledger.abandon(1, "SEMD-F04", "gone")
    assert ledger.unfinished() == []
    assert ledger.claim(claim(2)) == 2


def test_the_current_run_begins_with_its_first_frame(ledger: Ledger) -> None:
    assert ledger.current_run() == []
    for number, starts in enumerate([True, False, True, False, False], start=1):
        decide(ledger, number, starts_run=starts)
    ledger.claim(claim(6))
    assert ledger.current_run() == [("o3", "d3"), ("o4", "d4"), ("o5", "d5")]


def test_holds_that_lead_up_to_a_run_belong_to_what_it_is_rebuilt_from(ledger: Ledger) -> None:
    #        run A         run B: ends in HOLD  run C, one HOLD   run D
    starts = [True, False, True, False, True, True]
    holds = [False, False, False, True, True, False]
    for number, (start, hold) in enumerate(zip(starts, holds, strict=True), start=1):
        decide(ledger, number, starts_run=start, is_hold=hold)
    assert [observation for observation, _ in ledger.current_run()] == ["o3", "o4", "o5", "o6"]


def test_a_foreign_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as foreign:
        foreign.execute("CREATE TABLE theirs (x)")
    foreign.close()
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="another program"):
        open_ledger(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_says_what_to_do(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database at all " * 300)
    with pytest.raises(LedgerDamagedError, match="start the daemon"):
        open_ledger(path)


def test_a_damaged_ledger_says_what_to_do(path: Path) -> None:
    with open_ledger(path) as ledger:
        for number in range(1, 200):
            ledger.claim(claim(number))
    data = bytearray(path.read_bytes())
    data[8192:20480] = b"\xa5" * 12288
    path.write_bytes(data)
    with pytest.raises(LedgerDamagedError, match="start the daemon"):
        open_ledger(path)


def test_a_ledger_of_a_newer_program_is_refused(path: Path) -> None:
    open_ledger(path).close()
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(LedgerError, match="newer semd"):
        open_ledger(path)


def test_a_file_killed_before_its_first_table_is_ours_to_make(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    with open_ledger(path) as ledger:
        assert ledger.claim(claim(1)) == 1


def test_a_state_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot create"):
        open_ledger(tmp_path / "file" / "ledger.sqlite3")


def test_a_full_disk_takes_nothing(path: Path) -> None:
    with open_ledger(path) as ledger:
        ledger.claim(claim(1))
        pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
        ledger._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageError, match="disk is full"):
            ledger.claim(claim(2, reason_text="x" * 100_000))
        ledger._connection.execute("PRAGMA max_page_count = 100000")
        assert ledger.claim(claim(3)) == 2


def test_a_name_that_is_not_utf8_can_be_kept(ledger: Ledger) -> None:
    strange = b"frame-\xff".decode("utf-8", "surrogateescape")
    assert ledger.claim(claim(1, stem=strange)) == 1
    assert ledger.known_image(strange, "image-1")
    assert ledger.knows(claim(1, stem=strange).fingerprint)
