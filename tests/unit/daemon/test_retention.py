"""Retention with a clock that is set: what goes, in which order, and what never goes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from semd.config import RetentionConfig
from semd.daemon import retention
from semd.daemon.retention import Retention, Stores
from semd.outbox.ledger import Ledger
from semd.outbox.rows import Claim, Move, RejectionClaim

DAY_S = 86_400.0
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Lab:
    """Directories, a ledger and both clocks. The wall clock stands at `days` after the begin."""

    root: Path
    ledger: Ledger
    days: float = 0.0
    seconds: float = 0.0

    def now(self) -> datetime:
        return BEGIN + timedelta(days=self.days)

    @property
    def watch(self) -> Path:
        return self.root / "watch"

    def keep(self, **limits: float) -> None:
        """One whole pass."""
        stores = Stores(self.root / "archive", self.root / "quarantine", self.root / "actions", self.watch)
        kept = Retention(RetentionConfig(**limits), stores, self.ledger, self.now, lambda: self.seconds)
        kept.step()

    def file(self, folder: str, name: str, *, days: float, n_bytes: int = 1000) -> Path:
        """A file that was last written and moved so many days after the begin."""
        path = self.root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(n_bytes))
        moment_s = (BEGIN + timedelta(days=days)).timestamp()
        os.utime(path, (moment_s, moment_s))
        return path

    def names(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.root / folder).iterdir())

    def frame(self, number: int, *, moved: bool = True, starts_run: bool = True, ends: bool = True) -> None:
        """A frame, answered at the present time unless it is to stay half-way."""
        names = (f"f{number}.jpg", f"f{number}.txt")
        moves = tuple(Move(str(self.watch / n), str(self.root / "archive" / f"{number:08d}~{n}")) for n in names)
        claim = Claim(
            f"f{number}", f"{number:032x}", *names, f"i{number}", f"t{number}",
            tuple((name, 1, number, number) for name in names), moves if moved else (),
        )  # fmt: skip
        seq = self.ledger.claim(claim)
        assert seq is not None
        if ends:
            self.ledger.decide(seq, f"o{number}" * 100, f"d{number}" * 100, starts_run=starts_run, is_hold=False)
            self.ledger.published(seq, self.now(), self.now())

    def known(self, *numbers: int) -> list[bool]:
        return [self.ledger.known_image(f"f{number}", f"i{number}") for number in numbers]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    (tmp_path / "watch").mkdir()
    # The time of a move is the system's to write; here it must not make every file new.
    real = retention._changed_s
    monkeypatch.setattr(retention, "_changed_s", lambda found: min(real(found), found.st_mtime))
    lab = Lab(tmp_path, None)  # type: ignore[arg-type]
    lab.ledger = Ledger(tmp_path / "ledger.sqlite", now=lab.now)
    return lab


def test_nothing_goes_unless_it_is_asked_for(lab: Lab) -> None:
    lab.file("archive", "00000001~R.jpg", days=0)
    lab.file("quarantine", "ab~R.jpg", days=0)
    lab.file("actions/sent", "action-00000001-" + "a" * 32 + ".txt", days=0)
    lab.frame(1)
    lab.days = 10_000
    lab.keep()
    assert lab.names("archive") == ["00000001~R.jpg"]
    assert lab.names("quarantine") == ["ab~R.jpg"]
    assert len(lab.names("actions/sent")) == 1
    assert lab.known(1) == [True]


@pytest.mark.parametrize("folder", ["archive", "quarantine"])
def test_files_go_by_their_age(lab: Lab, folder: str) -> None:
    for day in range(6):
        lab.file(folder, f"{day:08d}~R.jpg", days=day)
    lab.days = 7.5
    lab.keep(**{f"{folder}_days": 4.0})
    assert lab.names(folder) == [f"{day:08d}~R.jpg" for day in (4, 5)]


def test_the_oldest_go_until_the_rest_fits(lab: Lab) -> None:
    for day in (3, 1, 5, 0, 4, 2):
        lab.file("archive", f"{day:08d}~R.jpg", days=day, n_bytes=1000)
    lab.days = 10
    lab.keep(archive_gb=3_500e-9)
    assert lab.names("archive") == [f"{day:08d}~R.jpg" for day in (3, 4, 5)]


def test_what_is_younger_than_a_day_stays_however_much_it_is(lab: Lab) -> None:
    lab.file("archive", "old.jpg", days=0)
    lab.file("archive", "new.jpg", days=1.5)
    lab.days = 2
    lab.keep(archive_gb=1e-9)
    assert lab.names("archive") == ["new.jpg"]


def test_the_time_of_a_move_counts_as_well_as_that_of_writing(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"x")
    os.utime(path, (0, 0))  # written long ago, by another computer's clock
    assert retention._changed_s(path.stat()) == path.stat().st_ctime > 1e9


def test_files_of_frames_on_their_way_stay(lab: Lab) -> None:
    lab.frame(1, ends=False)
    lab.ledger.reject(
        RejectionClaim(
            "bad", "bad.jpg", None, "d", None, (), "SEMD-F07", "", (Move("w", str(lab.root / "quarantine/k~b")),)
        )
    )
    for name in ("00000001~f1.jpg", "00000001~f1.txt", "00000000~f0.jpg"):
        lab.file("archive", name, days=0)
    lab.file("quarantine", "k~b", days=0)
    lab.days = 100
    lab.keep(archive_days=1, quarantine_days=1, archive_gb=1e-9)
    assert lab.names("archive") == ["00000001~f1.jpg", "00000001~f1.txt"]
    assert lab.names("quarantine") == ["k~b"]


def test_folders_links_and_hidden_files_are_left_alone(lab: Lab, tmp_path: Path) -> None:
    outside = lab.file("elsewhere", "precious.jpg", days=0)
    lab.file("archive", "gone.jpg", days=0)
    lab.file("archive", ".copy.partial", days=0)
    (lab.root / "archive" / "folder").mkdir()
    (lab.root / "archive" / "link.jpg").symlink_to(outside)
    lab.days = 100
    lab.keep(archive_days=1)
    assert lab.names("archive") == [".copy.partial", "folder", "link.jpg"]
    assert outside.exists()


def test_of_filed_actions_the_newest_stays_and_pending_ones_are_not_touched(lab: Lab) -> None:
    names = [f"action-{seq:08d}-{seq:032x}.txt" for seq in range(1, 6)]
    for name in names[:3]:
        lab.file("actions/sent", name, days=0)
    lab.file("actions/uncertain", names[3], days=0)
    lab.file("actions", names[4], days=0)
    lab.days = 100
    lab.keep(actions_days=30)
    assert lab.names("actions/sent") == [names[2]]
    assert lab.names("actions/uncertain") == [names[3]]
    assert (lab.root / "actions" / names[4]).exists()


def test_rows_go_by_their_age_and_are_new_frames_then(lab: Lab) -> None:
    for number in range(1, 6):
        lab.days = number
        lab.frame(number)
    lab.days = 10.5
    lab.keep(ledger_days=7.0)
    assert lab.known(1, 2, 3, 4, 5) == [False, False, False, True, True]
    assert lab.ledger.highest_seq() == 5
    lab.frame(1)
    assert lab.ledger.highest_seq() == 6


def test_the_run_that_goes_on_stays_whole(lab: Lab) -> None:
    for number, starts in enumerate([True, False, True, False, False], start=1):
        lab.frame(number, starts_run=starts)
    before = lab.ledger.current_run()
    lab.days = 1000
    lab.keep(ledger_days=1.0)
    assert lab.ledger.current_run() == before
    assert lab.known(1, 2, 3, 4, 5) == [False, False, True, True, True]


def test_a_frame_that_is_on_its_way_stays(lab: Lab) -> None:
    lab.frame(1, ends=False)
    lab.frame(2)
    lab.frame(3)
    lab.days = 1000
    lab.keep(ledger_days=1.0)
    assert [row.stem for row in lab.ledger.unfinished()] == ["f1"]
    assert lab.known(1, 2, 3) == [True, False, True]


def test_a_row_stays_while_its_files_lie_in_the_watch_directory(lab: Lab) -> None:
    for number in range(1, 5):
        lab.frame(number, moved=False)
        lab.file("watch", f"f{number}.jpg", days=0)
    (lab.watch / "f2.jpg").unlink()
    lab.days = 1000
    lab.keep(ledger_days=1.0)
    assert lab.known(1, 2, 3, 4) == [True, False, True, True]


def test_an_empty_watch_directory_may_be_a_share_that_is_away(lab: Lab) -> None:
    for number in range(1, 5):
        lab.frame(number, moved=False)
    lab.days = 1000
    lab.keep(ledger_days=1.0)
    assert lab.known(1, 2, 3, 4) == [True] * 4
    lab.file("watch", "f4.jpg", days=0)  # it is back
    lab.keep(ledger_days=1.0)
    assert lab.known(1, 2, 3, 4) == [False, False, False, True]


def test_the_ledger_is_cut_to_its_size_and_the_file_shrinks(lab: Lab) -> None:
    for number in range(1, 1200):
        lab.frame(number)
    lab.days = 3
    before = lab.ledger.size()
    limit = before.used_bytes // 3
    lab.keep(ledger_gb=limit * 1e-9)
    after = lab.ledger.size()
    assert before.rows == 1199
    assert limit * 0.7 < after.used_bytes <= limit * 1.1
    assert after.rows < 450
    assert lab.known(1, 1199) == [False, True]
    lab.ledger.close()
    assert (lab.root / "ledger.sqlite").stat().st_size < before.used_bytes * 0.5


def test_rows_younger_than_a_day_stay_however_many_they_are(lab: Lab) -> None:
    for number in range(1, 100):
        lab.frame(number)
    lab.days = 0.9
    lab.keep(ledger_gb=1e-9)
    assert lab.ledger.size().rows == 99


def test_a_pass_comes_every_hour_and_a_little_at_a_time(lab: Lab) -> None:
    for number in range(2000):
        lab.file("archive", f"{number:08d}~R.jpg", days=0, n_bytes=1)
    lab.days = 10
    stores = Stores(lab.root / "archive", lab.root / "quarantine", lab.root / "actions", lab.watch)
    moments_s = iter([0.0, *(step * 1.0 for step in range(100_000))])
    kept = Retention(RetentionConfig(archive_days=1), stores, lab.ledger, lab.now, lambda: next(moments_s))
    left = []
    while not left or left[-1]:
        kept.step()
        left.append(len(lab.names("archive")))
    assert len(left) > 20
    assert max(one - other for one, other in pairwise(left)) <= 64
    lab.file("archive", "late.jpg", days=0)
    for _ in range(100):
        kept.step()
    assert lab.names("archive") == ["late.jpg"]
    for _ in range(4000):
        kept.step()
    assert lab.names("archive") == []


def test_a_file_that_cannot_be_deleted_does_not_keep_the_others(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        lab.file("archive", f"{number}.jpg", days=0)
    real = Path.unlink

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if self.name == "1.jpg":
            raise PermissionError(13, "a viewer has it open", str(self))
        real(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    lab.days = 10
    lab.keep(archive_days=1)
    assert lab.names("archive") == ["1.jpg"]


def test_a_damaged_row_ends_the_pass_and_nothing_else(lab: Lab) -> None:
    lab.frame(1)
    lab.frame(2)
    lab.ledger._connection.execute("UPDATE frames SET moves = '[' WHERE seq = 1")
    lab.days = 100
    lab.keep(ledger_days=1)
    assert lab.ledger.size().rows == 2
