"""A ledger that is damaged in any way is noticed, left as it is, set aside, and answered for by a person."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from harness.outbox import drop_file, make_action

from semd.config import Config, load_config
from semd.daemon.daemon_process import LEDGER_FILE, open_boxes
from semd.daemon.frame_files import FrameFolders
from semd.daemon.health import check_health
from semd.errors import LedgerDamagedError, StorageError
from semd.outbox.damage import NOTE_FILE, damage_standing, inspect_ledger, set_aside
from semd.outbox.ledger import Ledger
from semd.outbox.rows import Claim
from semd.service.logs import configure_logs

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FRAMES = 60


class NoSource:
    models_digest = "0" * 64

    def answer(self, *_: object) -> None:
        raise AssertionError


def fill(path: Path, count: int = FRAMES, *, killed: bool = True) -> None:
    """Frames that were answered, and then the process ends; when it is killed the last commits are in the WAL alone."""
    live = path.with_name("live")
    with Ledger(live, now=lambda: NOW) as ledger:
        for number in range(count):
            claim = Claim(f"f{number}", f"{number:032x}", "i", "t", f"image {number}", "text", (("i", 1, number),))
            seq = ledger.claim(claim)
            assert seq is not None
            ledger.decide(seq, "{}", "{}" * 100, starts_run=False, is_hold=False)
            ledger.published(seq, NOW, NOW + timedelta(seconds=60))
            if number == count // 2:
                ledger._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for suffix in ("", "-wal") if killed else ():
            shutil.copy(f"{live}{suffix}", f"{path}{suffix}")
    if not killed:
        live.rename(path)
    for leftover in path.parent.glob("live*"):
        leftover.unlink()


def garble(path: Path, begin: int, end: int) -> None:
    data = bytearray(path.read_bytes())
    data[begin:end] = b"\xa5" * (end - begin)
    path.write_bytes(data)


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


DAMAGES: dict[str, Callable[[Path], None]] = {
    "header": lambda path: garble(path, 0, 100),
    "pages": lambda path: garble(path, 8192, 20480),
    "all of it": lambda path: path.write_bytes(b"no database at all " * 300),
    "truncated": lambda path: cut(path, 4096 * 3 + 100),
    "cut to nothing": lambda path: cut(path, 0),
    "WAL header": lambda path: garble(path.with_name(path.name + "-wal"), 0, 32),
    "WAL frames": lambda path: garble(path.with_name(path.name + "-wal"), 40, 9000),
    "WAL gone": lambda path: path.with_name(path.name + "-wal").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed_and_nothing_is_touched(tmp_path: Path, damage: str) -> None:
    path = tmp_path / LEDGER_FILE
    fill(path, killed=damage.startswith("WAL"))
    inspect_ledger(path, FRAMES)
    with pytest.raises(LedgerDamagedError, match=r"ledger\.sqlite: "):
        inspect_ledger(path, FRAMES + 1)  # as when a backup was put back
    DAMAGES[damage](path)
    before = {found.name: found.read_bytes() for found in tmp_path.iterdir() if not found.name.endswith("-shm")}
    with pytest.raises(LedgerDamagedError) as caught:
        Ledger(path, now=lambda: NOW, floor_seq=FRAMES)
    assert caught.value.code == "SEMD-L02"
    after = {found.name: found.read_bytes() for found in tmp_path.iterdir() if not found.name.endswith("-shm")}
    assert before.items() <= after.items()  # an empty -wal may be there now


def test_a_whole_ledger_is_opened_with_all_that_its_wal_holds(tmp_path: Path) -> None:
    path = tmp_path / LEDGER_FILE
    fill(path)
    with Ledger(path, now=lambda: NOW, floor_seq=FRAMES) as ledger:
        assert ledger.counts()["PUBLISHED"] == FRAMES


def test_what_is_set_aside_can_still_be_read(tmp_path: Path) -> None:
    path = tmp_path / LEDGER_FILE
    fill(path)
    aside = set_aside(path, "a reason", FRAMES, NOW)
    assert aside.name == "ledger.sqlite.damaged-20260102T030405.000000Z"
    assert not list(tmp_path.glob("ledger.sqlite")) + list(tmp_path.glob("ledger.sqlite-*"))
    assert sqlite3.connect(aside).execute("SELECT count(*) FROM frames").fetchone() == (FRAMES,)
    assert "a reason" in str(damage_standing(tmp_path))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    for name in ("watch", "actions", "state"):
        (tmp_path / name).mkdir()
    path = tmp_path / "semd.toml"
    parts = [f'[{name}]\ndirectory = "{name}"' for name in ("watch", "actions", "state")]
    path.write_text("\n".join(parts).replace('"watch"', '"watch"\nlayout = "single"') + "\n")
    return load_config(path)


def test_the_daemon_waits_for_a_person_and_then_goes_on_above_every_seq(config: Config, tmp_path: Path) -> None:
    state = config.state.directory
    configure_logs(state / "logs" / "daemon.log")
    fill(state / LEDGER_FILE, count=7)
    drop_file(config.actions.directory / "sent", make_action(7))
    with open_boxes(config, NoSource()) as boxes:  # type: ignore[arg-type]
        assert boxes.ledger.highest_seq() == 7
    (state / "archive").mkdir()
    (state / "archive" / "00000009~ResponseImage.jpg").touch()  # taken, and its claim is nowhere
    for _ in range(2):
        with pytest.raises(LedgerDamagedError), open_boxes(config, NoSource()):  # type: ignore[arg-type]
            pass
        assert not (state / LEDGER_FILE).exists()
    assert len(list(state.glob("ledger.sqlite.damaged-*Z"))) == 1
    events = [json.loads(line) for line in (state / "logs" / "daemon.log").read_text().splitlines()]
    assert [(event["event"], event["error"]) for event in events] == [("ledger.damaged", "SEMD-L02")] * 2
    assert any(reason.startswith("SEMD-L02: ") for reason in check_health(config, 0.0).reasons)

    note = state / NOTE_FILE
    assert "knows SEQ up to 7, action files or archive go up to 9" in note.read_text()
    note.unlink()
    with open_boxes(config, NoSource()) as boxes:  # type: ignore[arg-type]
        assert boxes.ledger.highest_seq() == 9
    assert not any("SEMD-L02" in reason for reason in check_health(config, 0.0).reasons)


def test_a_crash_while_setting_aside_leaves_a_note_or_the_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / LEDGER_FILE
    fill(path, killed=False)
    garble(path, 0, 100)

    def die(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("semd.outbox.damage.rename", die)
        with pytest.raises(StorageError, match="cannot rename"):
            set_aside(path, "a reason", FRAMES, NOW)
    assert damage_standing(tmp_path) is not None
    with pytest.raises(LedgerDamagedError):
        inspect_ledger(path, FRAMES)


def test_the_archive_tells_what_was_taken(tmp_path: Path) -> None:
    places = FrameFolders(tmp_path / "archive", tmp_path / "quarantine")
    assert places.highest_archived() == 0
    (tmp_path / "archive").mkdir()
    for name in ("00000012~a.jpg", "again-00000099~a.jpg", "0000000a~b.jpg", "00000003~a.txt", ".00000050~a.partial"):
        (tmp_path / "archive" / name).touch()
    assert places.highest_archived() == 12
    assert FrameFolders(None, tmp_path / "quarantine").highest_archived() == 0
