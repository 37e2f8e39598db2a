"""The audit trail: what is durable before what, and that it reads back."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
from pathlib import Path

import pytest
from harness.outbox import START, ListLink, SetClock, drop_file, make_action, make_desk, make_gate, places

from semd.errors import LinkError, StorageError
from semd.middle_client.audit import AuditTrail
from semd.middle_client.audit_reading import TrailReport, read_trail
from semd.middle_client.backoff import Backoff
from semd.middle_client.clock import Clock
from semd.middle_client.desk import Desk
from semd.middle_client.text_forwarder import TextForwarder
from semd.protocol.action import Action, encode_action

FILE = "commands-2026-01.jsonl"


class Stand:
    """A text forwarder on a directory, its trail beside it."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "actions"
        self.directory.mkdir()
        self.audit = root / "audit"
        self.link = ListLink()
        self.time = SetClock()
        self.clock = Clock(self.time.now, self.time.monotonic_s)
        self.desk: Desk = make_desk(self.directory, self.clock)
        self.forwarder = TextForwarder(
            self.desk,
            self.link,
            self.clock,
            gate=make_gate(self.directory, self.clock),
            answer_timeout_s=10.0,
            backoff=Backoff(1.0, 8.0, random.Random(0)),
        )

    def step(self, *answers: str, after_s: float = 0.0) -> None:
        self.time.seconds += after_s
        self.link.inbox += [f"{answer}\n".encode() for answer in answers]
        self.forwarder.step()

    def lines(self, name: str = FILE) -> list[dict[str, object]]:
        path = self.audit / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def test_one_command_is_two_lines(stand: Stand) -> None:
    action = make_action(7, wd_mm=9.25)
    drop_file(stand.directory, action)
    stand.step()
    stand.step(f"ACK {action.id}", after_s=0.25)
    message = encode_action(action) + b"\n"
    assert stand.lines() == [
        {
            "event": "sending",
            "at": "2026-01-02T03:04:05.000+00:00",
            "id": action.id,
            "seq": 7,
            "frame": "frame-7",
            "status": "ADJUST",
            "targets": {"wd": 9.25},
            "command": "",
            "bytes": len(message),
            "sha256": hashlib.sha256(message).hexdigest(),
        },
        {
            "event": "answer",
            "at": "2026-01-02T03:04:05.250+00:00",
            "id": action.id,
            "seq": 7,
            "answer": "ACK",
            "latency_ms": 250.0,
        },
    ]
    assert stand.link.sent == [message]


def test_every_answer_and_every_silence_is_written_down(stand: Stand) -> None:
    first = make_action(1, lifetime_s=600.0)
    drop_file(stand.directory, first)
    stand.step()
    stand.step(f"BUSY {first.id}")
    stand.step(after_s=2.0)
    stand.step(after_s=10.1)
    stand.link.come_back()
    stand.step()
    stand.step(f"NAK {first.id} stage is locked")
    answers = [line["answer"] for line in stand.lines() if line["event"] == "answer"]
    assert answers == ["BUSY", "none: no answer within 10 s", "NAK stage is locked"]
    assert [line["event"] for line in stand.lines()] == ["sending", "answer"] * 3


def test_the_order_journal_trail_socket_trail_file(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on the disk, seen at each step that matters."""
    action = make_action(1)
    drop_file(stand.directory, action)
    journal = stand.directory.parent / "middle-client.json"
    seen: list[tuple[str, bool, list[str], dict[str, list[int]]]] = []
    synced: list[str] = []
    fsync = os.fsync

    def note_fsync(handle: int) -> None:
        fsync(handle)
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))

    def look(moment: str) -> None:
        events = [str(line["event"]) for line in stand.lines()]
        seen.append((moment, json.loads(journal.read_bytes())["was_sent"], events, places(stand.directory)))

    send, move = stand.link.send, stand.desk._folder.move

    def send_and_look(data: bytes) -> None:
        look("socket")
        send(data)

    def move_and_look(*arguments: object) -> None:
        look("move")
        move(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(stand.link, "send", send_and_look)
    monkeypatch.setattr(type(stand.desk._folder), "move", lambda _self, *arguments: move_and_look(*arguments))
    if Path("/proc/self/fd").is_dir():
        monkeypatch.setattr("semd.middle_client.audit.os.fsync", note_fsync)
    stand.step()
    stand.step(f"ACK {action.id}")
    assert seen == [
        ("socket", True, ["sending"], {"": [1]}),
        ("move", True, ["sending", "answer"], {"": [1]}),
    ]
    if Path("/proc/self/fd").is_dir():
        assert sum(path.endswith(FILE) for path in synced) == 2


def full(_handle: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_nothing_is_sent_that_cannot_be_written_down_and_it_is_not_in_doubt(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_file(stand.directory, make_action(1, lifetime_s=30.0))
    stand.audit.write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="audit"):
        stand.step()
    assert stand.link.sent == []
    stand.step(after_s=30.0)
    assert places(stand.directory) == {"expired": [1]}


def test_an_answer_that_cannot_be_written_down_yet_is_kept_and_nothing_moves_before(stand: Stand) -> None:
    action = make_action(1)
    drop_file(stand.directory, action)
    stand.step()
    moved = stand.audit.rename(stand.audit.with_name("away"))
    stand.audit.write_text("in the way")
    with pytest.raises(StorageError):
        stand.step(f"ACK {action.id}")
    with pytest.raises(StorageError):
        stand.step()
    assert places(stand.directory) == {"": [1]}
    stand.audit.unlink()
    moved.rename(stand.audit)
    stand.step()
    assert places(stand.directory) == {"sent": [1]}
    assert [line["event"] for line in stand.lines()] == ["sending", "answer"]
    assert len(stand.link.sent) == 1


def test_what_is_due_when_the_process_ends_is_written(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    def reset() -> bytes:
        raise LinkError("reset")

    drop_file(stand.directory, make_action(1))
    stand.step()
    monkeypatch.setattr(stand.link, "receive", reset)
    stand.step()
    stand.desk.close()
    assert stand.lines()[-1]["answer"] == "none: reset"


def trail(root: Path, clock: SetClock | None = None) -> tuple[AuditTrail, SetClock]:
    time = clock or SetClock()
    return AuditTrail(root, Clock(time.now, time.monotonic_s)), time


def record(trail: AuditTrail, seq: int, answer: str | None = "ACK") -> Action:
    action = make_action(seq)
    trail.sending(action, b"x")
    if answer is not None:
        trail.ended(answer)
        trail.flush()
    return action


def seqs(report: TrailReport) -> list[int]:
    return [command.seq for command in report.commands]


def test_the_newest_are_read_across_months(tmp_path: Path) -> None:
    writer, time = trail(tmp_path / "audit")
    month_s = 31 * 86400.0
    for seq in range(1, 10):
        record(writer, seq)
        if seq % 3 == 0:
            time.seconds += month_s
    assert len(list((tmp_path / "audit").iterdir())) == 3
    assert seqs(read_trail(tmp_path / "audit", 100)) == list(range(1, 10))
    for last in range(1, 10):
        assert seqs(read_trail(tmp_path / "audit", last)) == list(range(10 - last, 10))


def test_an_answer_after_midnight_of_the_month_finds_its_command(tmp_path: Path) -> None:
    writer, time = trail(tmp_path)
    writer.sending(make_action(1), b"x")
    time.seconds = 31 * 86400.0
    writer.ended("ACK")
    writer.flush()
    record(writer, 2)
    first, second = read_trail(tmp_path, 5).commands
    assert (first.seq, first.answer, first.latency_ms) == (1, "ACK", 31 * 86400.0 * 1e3)
    assert (second.seq, second.answer) == (2, "ACK")


def test_half_a_line_spoils_no_other(tmp_path: Path) -> None:
    writer, _ = trail(tmp_path)
    record(writer, 1)
    path = tmp_path / FILE
    with path.open("ab") as file:
        file.write(b'{"event": "sending", "at"')  # the power went
    record(writer, 2, answer=None)
    record(writer, 3)
    report = read_trail(tmp_path, 10)
    assert seqs(report) == [1, 2, 3]
    assert [command.answer for command in report.commands] == ["ACK", None, "ACK"]
    assert report.damaged_lines == 1


def test_a_line_that_failed_half_way_is_written_again_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, _ = trail(tmp_path)
    writer.sending(make_action(1), b"x")
    writer.ended("ACK")
    with monkeypatch.context() as patch:
        patch.setattr("semd.middle_client.audit.os.fsync", full)
        with pytest.raises(StorageError, match="disk is full"):
            writer.flush()
    writer.flush()
    writer.flush()
    [command] = read_trail(tmp_path, 10).commands
    assert command.answer == "ACK"


@pytest.mark.parametrize(
    "line",
    [
        b"\0" * 100,
        b"[" * 100_000,
        b'{"event": "sending"}',
        b"[]",
        b"12",
        b"\xff\xfe",
        b"x" * 3_000_000,
        b'{"a":' * 9000,
    ],
)
def test_foreign_lines_are_counted_and_passed_over(tmp_path: Path, line: bytes) -> None:
    writer, _ = trail(tmp_path)
    record(writer, 1)
    with (tmp_path / FILE).open("ab") as file:
        file.write(line + b"\n")
    record(writer, 2)
    report = read_trail(tmp_path, 10)
    assert (seqs(report), report.damaged_lines) == ([1, 2], 1)


def test_a_long_word_of_the_other_side_is_cut(tmp_path: Path) -> None:
    writer, _ = trail(tmp_path)
    record(writer, 1, "NAK " + "\x1b" * 5000)
    [line] = (tmp_path / FILE).read_bytes().splitlines()[1:]
    assert len(line) < 2500
    assert b"\x1b" not in line
    assert len(str(read_trail(tmp_path, 1).commands[0].answer)) == 300


def test_no_trail_is_an_empty_one(tmp_path: Path) -> None:
    assert read_trail(tmp_path / "none", 5) == TrailReport((), 0)
    assert START.month == 1  # what FILE is named after
