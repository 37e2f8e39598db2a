"""The `text` dialect's rules, over a link whose other end is the test and a clock that is set."""

from __future__ import annotations

import errno
import json
import os
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.outbox import ListLink, SetClock, drop_file, make_action, make_desk, make_gate, places

from semd.errors import StorageError
from semd.middle_client.backoff import Backoff
from semd.middle_client.clock import Clock
from semd.middle_client.text_forwarder import TextForwarder
from semd.protocol.action import Action, encode_action

ANSWER_TIMEOUT_S = 10.0


@dataclass
class Stand:
    directory: Path
    link: ListLink
    clock: SetClock

    def __post_init__(self) -> None:
        self.start_process()

    def start_process(self) -> None:
        """A new process: nothing in memory."""
        clock = Clock(self.clock.now, self.clock.monotonic_s)
        self.desk = make_desk(self.directory, clock)
        backoff = Backoff(1.0, 8.0, random.Random(0))
        self.forwarder = TextForwarder(
            self.desk,
            self.link,
            clock,
            gate=make_gate(self.directory, clock),
            answer_timeout_s=ANSWER_TIMEOUT_S,
            backoff=backoff,
        )

    @property
    def journal_path(self) -> Path:
        return self.directory.parent / "middle-client.json"

    def step(self, *answers: str, after_s: float = 0.0) -> None:
        self.clock.seconds += after_s
        self.link.inbox += [f"{answer}\n".encode() for answer in answers]
        self.forwarder.step()

    @property
    def sent_seqs(self) -> list[int]:
        return [int(message.split(b"SEQ=")[1].split(b"\n")[0]) for message in self.link.sent]

    def places(self) -> dict[str, list[int]]:
        return places(self.directory)


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    (tmp_path / "actions").mkdir()
    return Stand(tmp_path / "actions", ListLink(), SetClock())


def ack(action: Action) -> str:
    return f"ACK {action.id}"


def test_actions_go_one_by_one_in_the_order_of_seq(stand: Stand) -> None:
    actions = {seq: make_action(seq) for seq in (11, 9, 10)}
    for action in actions.values():
        drop_file(stand.directory, action)
    for _ in range(3):
        stand.step()
    assert stand.link.sent == [encode_action(actions[9]) + b"\n"]
    stand.step(ack(actions[9]))
    stand.step(ack(actions[10]))
    stand.step(ack(actions[11]))
    assert stand.sent_seqs == [9, 10, 11]
    assert stand.places() == {"sent": [9, 10, 11]}
    assert stand.desk.newest_acknowledged_seq == 11


def test_a_refusal_is_final(stand: Stand) -> None:
    action = make_action(1)
    drop_file(stand.directory, action)
    stand.step()
    stand.step(f"NAK {action.id} stage is locked")
    stand.step()
    assert stand.sent_seqs == [1]
    assert stand.places() == {"refused": [1]}


def test_busy_is_tried_again_after_growing_pauses(stand: Stand) -> None:
    action = make_action(1)
    drop_file(stand.directory, action)
    stand.step()
    stand.step(f"BUSY {action.id}")
    stand.step(after_s=0.4)
    assert len(stand.link.sent) == 1  # a pause is at least half of its nominal second
    stand.step(after_s=0.7)
    assert len(stand.link.sent) == 2
    stand.step(f"BUSY {action.id}")
    stand.step(after_s=0.9)
    assert len(stand.link.sent) == 2
    stand.step(after_s=1.2)
    assert stand.link.sent == [stand.link.sent[0]] * 3
    stand.step(ack(action))
    assert stand.places() == {"sent": [1]}


def test_busy_until_it_expires_is_expired_and_not_in_doubt(stand: Stand) -> None:
    action = make_action(1, lifetime_s=5.0)
    drop_file(stand.directory, action)
    stand.step()
    stand.step(f"BUSY {action.id}")
    stand.step(after_s=5.0)
    assert len(stand.link.sent) == 1
    assert stand.places() == {"expired": [1]}


def test_nothing_is_sent_at_or_after_expiry(stand: Stand) -> None:
    drop_file(stand.directory, make_action(1, lifetime_s=5.0))
    drop_file(stand.directory, make_action(2, lifetime_s=5.5))
    stand.link.is_up = False
    stand.step()
    assert stand.places() == {"": [1, 2]}
    stand.clock.seconds = 5.0
    stand.link.come_back()
    stand.step()
    stand.step()
    assert stand.sent_seqs == [2]
    assert stand.places() == {"": [2], "expired": [1]}


def test_files_expire_while_the_link_is_down(stand: Stand) -> None:
    stand.link.is_up = False
    for seq in (1, 2, 3):
        drop_file(stand.directory, make_action(seq, lifetime_s=float(seq)))
    stand.step()
    stand.step(after_s=2.5)
    stand.step()
    assert stand.places() == {"": [3], "expired": [1, 2]}


def test_what_is_older_than_the_newest_acknowledged_is_not_sent(stand: Stand) -> None:
    drop_file(stand.directory, make_action(5))
    stand.step()
    stand.step(ack(make_action(5)))
    drop_file(stand.directory, make_action(4))
    stand.step()
    assert stand.sent_seqs == [5]
    assert stand.places() == {"expired": [4], "sent": [5]}
    stand.start_process()
    drop_file(stand.directory, make_action(3))
    stand.step()
    assert stand.sent_seqs == [5]


def test_an_unanswered_action_is_sent_again_unchanged_on_the_next_connection(stand: Stand) -> None:
    action = make_action(1)
    drop_file(stand.directory, action)
    stand.step()
    stand.link.inbox.append(b"ACK 000")  # half an answer is none
    stand.step()
    stand.link.drop("the cable")
    stand.step(after_s=1.0)
    assert len(stand.link.sent) == 1
    stand.link.come_back()
    stand.step()
    assert stand.link.sent == [encode_action(action) + b"\n"] * 2
    stand.step(ack(action))
    assert stand.places() == {"sent": [1]}


def test_silence_counts_as_a_broken_link(stand: Stand) -> None:
    drop_file(stand.directory, make_action(1))
    stand.step()
    stand.step(after_s=ANSWER_TIMEOUT_S)
    assert stand.link.drops == []
    stand.step(after_s=0.1)
    assert stand.link.drops == ["no answer within 10 s"]
    stand.link.come_back()
    stand.step()
    assert stand.sent_seqs == [1, 1]


def test_an_answer_that_comes_after_expiry_still_counts(stand: Stand) -> None:
    action = make_action(1, lifetime_s=5.0)
    drop_file(stand.directory, action)
    stand.step()
    stand.step(after_s=6.0)
    assert stand.places() == {"": [1]}
    stand.step(ack(action))
    assert stand.places() == {"sent": [1]}


def test_sent_and_never_answered_before_expiry_is_in_doubt(stand: Stand) -> None:
    drop_file(stand.directory, make_action(1, lifetime_s=5.0))
    stand.step()
    stand.link.drop("the cable")
    stand.step(after_s=6.0)
    stand.link.come_back()
    stand.step()
    assert stand.sent_seqs == [1]
    assert stand.places() == {"uncertain": [1]}


def test_a_send_that_breaks_may_have_arrived(stand: Stand) -> None:
    drop_file(stand.directory, make_action(1, lifetime_s=5.0))
    stand.link.breaks_on_send = True
    stand.step()
    assert stand.link.drops == ["sending failed"]
    stand.step(after_s=6.0)
    assert stand.places() == {"uncertain": [1]}


@pytest.mark.parametrize("stray", [f"ACK {'f' * 32}", f"NAK {'0' * 32} malformed", f"BUSY {'f' * 32}"])
def test_answers_to_something_else_are_ignored(stand: Stand, stray: str) -> None:
    stand.step(stray)
    drop_file(stand.directory, make_action(1))
    stand.step()
    stand.step(stray)
    assert stand.places() == {"": [1]}
    assert stand.link.drops == []


def test_garbage_drops_the_link(stand: Stand) -> None:
    stand.step("220 smtp.example ready")
    assert len(stand.link.drops) == 1


def test_malformed_files_are_refused_and_the_rest_goes_on(stand: Stand) -> None:
    broken = drop_file(stand.directory, make_action(1))
    broken.write_bytes(broken.read_bytes().replace(b"WD=9", b"WD=8"))
    renamed = drop_file(stand.directory, make_action(2))
    renamed.rename(stand.directory / make_action(3).file_name)
    (stand.directory / "action-4.txt").write_text("SEMD-ACTION=1\n")
    (stand.directory / ".action-00000005-.tmp").write_text("half")
    (stand.directory / "notes.md").write_text("the operator's")
    drop_file(stand.directory, make_action(6))
    stand.step()
    assert stand.sent_seqs == [6]
    refused = sorted(path.name for path in (stand.directory / "refused").iterdir())
    assert refused == [make_action(1).file_name, make_action(3).file_name, "action-4.txt"]
    assert (stand.directory / "notes.md").exists()


def test_nothing_is_overwritten(stand: Stand) -> None:
    there = drop_file(stand.directory / "refused", make_action(1))
    there.write_text("first")
    drop_file(stand.directory, make_action(1)).write_text("second")
    stand.step()
    assert there.read_text() == "first"
    assert there.with_name(f"{there.name}.1").read_text() == "second"


def test_a_restarted_client_sends_again_what_was_in_doubt(stand: Stand) -> None:
    drop_file(stand.directory, make_action(1))
    stand.step()
    stand.start_process()
    stand.link.come_back()
    stand.step()
    assert stand.link.sent == [stand.link.sent[0]] * 2
    stand.step(ack(make_action(1)))
    assert stand.places() == {"sent": [1]}


def test_a_restarted_client_parks_what_was_in_doubt_and_expired(stand: Stand) -> None:
    drop_file(stand.directory, make_action(1, lifetime_s=5.0))
    drop_file(stand.directory, make_action(2, lifetime_s=5.0))
    stand.step()
    stand.start_process()
    stand.step(after_s=10.0)
    stand.step()
    assert stand.places() == {"uncertain": [1], "expired": [2]}


def test_a_crash_between_the_move_and_the_journal_is_made_good(stand: Stand) -> None:
    drop_file(stand.directory, make_action(7))
    stand.step()
    path = stand.directory / make_action(7).file_name
    (stand.directory / "sent").mkdir()
    path.rename(stand.directory / "sent" / path.name)
    stand.start_process()
    drop_file(stand.directory, make_action(6))
    stand.step()
    assert stand.desk.newest_acknowledged_seq == 7
    assert stand.places() == {"sent": [7], "expired": [6]}


def test_a_rename_that_a_power_cut_took_back_is_made_again(stand: Stand) -> None:
    drop_file(stand.directory, make_action(7))
    stand.step()
    stand.step(ack(make_action(7)))
    path = stand.directory / make_action(7).file_name
    (stand.directory / "sent" / path.name).rename(path)
    stand.start_process()
    stand.step()
    assert stand.sent_seqs == [7]
    assert stand.places() == {"sent": [7]}


@pytest.mark.parametrize("content", [b"", b"\0" * 80, b"[]", b'{"in_flight": 3}', b'{"unknown": 1}'])
def test_a_damaged_journal_is_set_aside(stand: Stand, content: bytes) -> None:
    drop_file(stand.directory / "sent", make_action(4))
    drop_file(stand.directory, make_action(3))
    drop_file(stand.directory, make_action(5, lifetime_s=5.0))
    stand.journal_path.write_bytes(content)
    stand.step(after_s=6.0)
    stand.step()
    assert stand.journal_path.with_name("middle-client.json.damaged").read_bytes() == content
    # The oldest may have been sent: it is in doubt until it is answered.
    assert stand.sent_seqs == [3]
    assert json.loads(stand.journal_path.read_bytes())["in_flight"] == make_action(3).file_name


def test_nothing_is_sent_that_could_not_be_written_down(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand.step()
    drop_file(stand.directory, make_action(1))

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("semd.service.storage.os.fsync", full)
        with pytest.raises(StorageError, match="disk is full"):
            stand.step()
    assert stand.link.sent == []
    stand.step()
    assert stand.sent_seqs == [1]


def test_an_acknowledged_action_is_not_sent_again_because_it_could_not_be_moved(stand: Stand) -> None:
    drop_file(stand.directory, make_action(1))
    stand.step()
    (stand.directory / "sent").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="move to sent"):
        stand.step(ack(make_action(1)))
    with pytest.raises(StorageError, match="move to sent"):
        stand.step()
    stand.link.drop("the cable")
    stand.link.come_back()
    (stand.directory / "sent").unlink()
    stand.step()
    assert stand.sent_seqs == [1]
    assert stand.places() == {"sent": [1]}


def test_a_directory_that_vanishes_and_returns(stand: Stand) -> None:
    stand.step()
    stand.directory.rename(stand.directory.with_name("away"))
    with pytest.raises(StorageError, match="directory is gone"):
        stand.step()
    stand.directory.with_name("away").rename(stand.directory)
    drop_file(stand.directory, make_action(1))
    stand.step()
    assert stand.sent_seqs == [1]
