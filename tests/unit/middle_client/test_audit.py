"""The audit trail: what is durable before what, and that it reads back."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
from harness.middle_client import MiddleClientUnderTest
from harness.outbox import START, drop_file, make_action, places

from semd.errors import LinkError, StorageError
from semd.middle_client.audit import AuditTrail
from semd.middle_client.audit_reading import TrailReport, read_trail
from semd.middle_client.clock import Clock
from semd.protocol.action import Action, encode_action
from semd.testing import FakeClock

FILE = "commands-2026-01.jsonl"


@pytest.fixture
def client(tmp_path: Path) -> MiddleClientUnderTest:
    return MiddleClientUnderTest(tmp_path / "actions")


def test_one_command_is_two_lines(client: MiddleClientUnderTest) -> None:
    action = make_action(7, wd_mm=9.25)
    drop_file(client.directory, action)
    client.step()
    client.step(f"ACK {action.id}", after_s=0.25)
    message = encode_action(action) + b"\n"
    assert client.lines() == [
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
    assert client.link.sent == [message]


def test_every_answer_and_every_silence_is_written_down(client: MiddleClientUnderTest) -> None:
    first = make_action(1, lifetime_s=600.0)
    drop_file(client.directory, first)
    client.step()
    client.step(f"BUSY {first.id}")
    client.step(after_s=2.0)
    client.step(after_s=10.1)
    client.link.come_back()
    client.step()
    client.step(f"NAK {first.id} stage is locked")
    answers = [line["answer"] for line in client.lines() if line["event"] == "answer"]
    assert answers == ["BUSY", "none: no answer within 10 s", "NAK stage is locked"]
    assert [line["event"] for line in client.lines()] == ["sending", "answer"] * 3


def test_the_order_journal_trail_socket_trail_file(
    client: MiddleClientUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content of the disk at each step that matters."""
    action = make_action(1)
    drop_file(client.directory, action)
    journal = client.directory.parent / "middle-client.json"
    seen: list[tuple[str, bool, list[str], dict[str, list[int]]]] = []
    synced: list[str] = []
    fsync = os.fsync

    def note_fsync(handle: int) -> None:
        fsync(handle)
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))

    def look(moment: str) -> None:
        events = [str(line["event"]) for line in client.lines()]
        seen.append((moment, json.loads(journal.read_bytes())["was_sent"], events, places(client.directory)))

    send, move = client.link.send, client.pending._folder.move

    def send_and_look(data: bytes) -> None:
        look("socket")
        send(data)

    def move_and_look(*arguments: object) -> None:
        look("move")
        move(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(client.link, "send", send_and_look)
    monkeypatch.setattr(type(client.pending._folder), "move", lambda _self, *arguments: move_and_look(*arguments))
    if Path("/proc/self/fd").is_dir():
        monkeypatch.setattr("semd.middle_client.audit.os.fsync", note_fsync)
    client.step()
    client.step(f"ACK {action.id}")
    assert seen == [
        ("socket", True, ["sending"], {"": [1]}),
        ("move", True, ["sending", "answer"], {"": [1]}),
    ]
    if Path("/proc/self/fd").is_dir():
        assert sum(path.endswith(FILE) for path in synced) == 2


def full(_handle: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_nothing_is_sent_that_cannot_be_written_down_and_it_is_not_in_doubt(
    client: MiddleClientUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_file(client.directory, make_action(1, lifetime_s=30.0))
    client.audit.write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="audit"):
        client.step()
    assert client.link.sent == []
    client.step(after_s=30.0)
    assert places(client.directory) == {"expired": [1]}


def test_an_answer_that_cannot_be_written_down_yet_is_kept_and_nothing_moves_before(
    client: MiddleClientUnderTest,
) -> None:
    action = make_action(1)
    drop_file(client.directory, action)
    client.step()
    moved = client.audit.rename(client.audit.with_name("away"))
    client.audit.write_text("in the way")
    with pytest.raises(StorageError):
        client.step(f"ACK {action.id}")
    with pytest.raises(StorageError):
        client.step()
    assert places(client.directory) == {"": [1]}
    client.audit.unlink()
    moved.rename(client.audit)
    client.step()
    assert places(client.directory) == {"sent": [1]}
    assert [line["event"] for line in client.lines()] == ["sending", "answer"]
    assert len(client.link.sent) == 1


def test_what_is_due_when_the_process_ends_is_written(
    client: MiddleClientUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reset() -> bytes:
        raise LinkError("reset")

    drop_file(client.directory, make_action(1))
    client.step()
    monkeypatch.setattr(client.link, "receive", reset)
    client.step()
    client.pending.close()
    assert client.lines()[-1]["answer"] == "none: reset"


def trail(root: Path, clock: FakeClock | None = None) -> tuple[AuditTrail, FakeClock]:
    time = clock or FakeClock()
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
