"""The `text` dialect's rules, over a link whose other end is the test and a clock that is set."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from harness.middle_client import MiddleClientUnderTest
from harness.outbox import drop_file, make_action

from semd.errors import StorageError
from semd.protocol.action import Action, encode_action

ANSWER_TIMEOUT_S = 10.0


@pytest.fixture
def client(tmp_path: Path) -> MiddleClientUnderTest:
    return MiddleClientUnderTest(tmp_path / "actions")


def ack(action: Action) -> str:
    return f"ACK {action.id}"


def test_actions_go_one_by_one_in_the_order_of_seq(client: MiddleClientUnderTest) -> None:
    actions = {seq: make_action(seq) for seq in (11, 9, 10)}
    for action in actions.values():
        drop_file(client.directory, action)
    for _ in range(3):
        client.step()
    assert client.link.sent == [encode_action(actions[9]) + b"\n"]
    client.step(ack(actions[9]))
    client.step(ack(actions[10]))
    client.step(ack(actions[11]))
    assert client.sent_seqs == [9, 10, 11]
    assert client.places() == {"sent": [9, 10, 11]}
    assert client.pending.newest_acknowledged_seq == 11


def test_a_refusal_is_final(client: MiddleClientUnderTest) -> None:
    action = make_action(1)
    drop_file(client.directory, action)
    client.step()
    client.step(f"NAK {action.id} stage is locked")
    client.step()
    assert client.sent_seqs == [1]
    assert client.places() == {"refused": [1]}


def test_busy_is_tried_again_after_growing_pauses(client: MiddleClientUnderTest) -> None:
    action = make_action(1)
    drop_file(client.directory, action)
    client.step()
    client.step(f"BUSY {action.id}")
    client.step(after_s=0.4)
    assert len(client.link.sent) == 1  # a pause is at least half of its nominal second
    client.step(after_s=0.7)
    assert len(client.link.sent) == 2
    client.step(f"BUSY {action.id}")
    client.step(after_s=0.9)
    assert len(client.link.sent) == 2
    client.step(after_s=1.2)
    assert client.link.sent == [client.link.sent[0]] * 3
    client.step(ack(action))
    assert client.places() == {"sent": [1]}


def test_busy_until_it_expires_is_expired_and_not_in_doubt(client: MiddleClientUnderTest) -> None:
    action = make_action(1, lifetime_s=5.0)
    drop_file(client.directory, action)
    client.step()
    client.step(f"BUSY {action.id}")
    client.step(after_s=5.0)
    assert len(client.link.sent) == 1
    assert client.places() == {"expired": [1]}


def test_nothing_is_sent_at_or_after_expiry(client: MiddleClientUnderTest) -> None:
    drop_file(client.directory, make_action(1, lifetime_s=5.0))
    drop_file(client.directory, make_action(2, lifetime_s=5.5))
    client.link.is_up = False
    client.step()
    assert client.places() == {"": [1, 2]}
    client.clock.seconds = 5.0
    client.link.come_back()
    client.step()
    client.step()
    assert client.sent_seqs == [2]
    assert client.places() == {"": [2], "expired": [1]}


def test_files_expire_while_the_link_is_down(client: MiddleClientUnderTest) -> None:
    client.link.is_up = False
    for seq in (1, 2, 3):
        drop_file(client.directory, make_action(seq, lifetime_s=float(seq)))
    client.step()
    client.step(after_s=2.5)
    client.step()
    assert client.places() == {"": [3], "expired": [1, 2]}


def test_what_is_older_than_the_newest_acknowledged_is_not_sent(client: MiddleClientUnderTest) -> None:
    drop_file(client.directory, make_action(5))
    client.step()
    client.step(ack(make_action(5)))
    drop_file(client.directory, make_action(4))
    client.step()
    assert client.sent_seqs == [5]
    assert client.places() == {"expired": [4], "sent": [5]}
    client.start_process()
    drop_file(client.directory, make_action(3))
    client.step()
    assert client.sent_seqs == [5]


def test_an_unanswered_action_is_sent_again_unchanged_on_the_next_connection(client: MiddleClientUnderTest) -> None:
    action = make_action(1)
    drop_file(client.directory, action)
    client.step()
    client.link.inbox.append(b"ACK 000")  # half an answer is none
    client.step()
    client.link.drop("the cable")
    client.step(after_s=1.0)
    assert len(client.link.sent) == 1
    client.link.come_back()
    client.step()
    assert client.link.sent == [encode_action(action) + b"\n"] * 2
    client.step(ack(action))
    assert client.places() == {"sent": [1]}


def test_silence_counts_as_a_broken_link(client: MiddleClientUnderTest) -> None:
    drop_file(client.directory, make_action(1))
    client.step()
    client.step(after_s=ANSWER_TIMEOUT_S)
    assert client.link.drops == []
    client.step(after_s=0.1)
    assert client.link.drops == ["no answer within 10 s"]
    client.link.come_back()
    client.step()
    assert client.sent_seqs == [1, 1]


def test_an_answer_that_comes_after_expiry_still_counts(client: MiddleClientUnderTest) -> None:
    action = make_action(1, lifetime_s=5.0)
    drop_file(client.directory, action)
    client.step()
    client.step(after_s=6.0)
    assert client.places() == {"": [1]}
    client.step(ack(action))
    assert client.places() == {"sent": [1]}


def test_sent_and_never_answered_before_expiry_is_in_doubt(client: MiddleClientUnderTest) -> None:
    drop_file(client.directory, make_action(1, lifetime_s=5.0))
    client.step()
    client.link.drop("the cable")
    client.step(after_s=6.0)
    client.link.come_back()
    client.step()
    assert client.sent_seqs == [1]
    assert client.places() == {"uncertain": [1]}


def test_a_send_that_breaks_may_have_arrived(client: MiddleClientUnderTest) -> None:
    drop_file(client.directory, make_action(1, lifetime_s=5.0))
    client.link.breaks_on_send = True
    client.step()
    assert client.link.drops == ["sending failed"]
    client.step(after_s=6.0)
    assert client.places() == {"uncertain": [1]}


@pytest.mark.parametrize("stray", [f"ACK {'f' * 32}", f"NAK {'0' * 32} malformed", f"BUSY {'f' * 32}"])
def test_answers_to_something_else_are_ignored(client: MiddleClientUnderTest, stray: str) -> None:
    client.step(stray)
    drop_file(client.directory, make_action(1))
    client.step()
    client.step(stray)
    assert client.places() == {"": [1]}
    assert client.link.drops == []


def test_garbage_drops_the_link(client: MiddleClientUnderTest) -> None:
    client.step("220 smtp.example ready")
    assert len(client.link.drops) == 1


def test_malformed_files_are_refused_and_the_rest_goes_on(client: MiddleClientUnderTest) -> None:
    broken = drop_file(client.directory, make_action(1))
    broken.write_bytes(broken.read_bytes().replace(b"WD=9", b"WD=8"))
    renamed = drop_file(client.directory, make_action(2))
    renamed.rename(client.directory / make_action(3).file_name)
    (client.directory / "action-4.txt").write_text("SEMD-ACTION=1\n")
    (client.directory / ".action-00000005-.tmp").write_text("half")
    (client.directory / "notes.md").write_text("the operator's")
    drop_file(client.directory, make_action(6))
    client.step()
    assert client.sent_seqs == [6]
    refused = sorted(path.name for path in (client.directory / "refused").iterdir())
    assert refused == [make_action(1).file_name, make_action(3).file_name, "action-4.txt"]
    assert (client.directory / "notes.md").exists()


def test_nothing_is_overwritten(client: MiddleClientUnderTest) -> None:
    there = drop_file(client.directory / "refused", make_action(1))
    there.write_text("first")
    drop_file(client.directory, make_action(1)).write_text("second")
    client.step()
    assert there.read_text() == "first"
    assert there.with_name(f"{there.name}.1").read_text() == "second"


def test_a_restarted_client_sends_again_what_was_in_doubt(client: MiddleClientUnderTest) -> None:
    drop_file(client.directory, make_action(1))
    client.step()
    client.start_process()
    client.link.come_back()
    client.step()
    assert client.link.sent == [client.link.sent[0]] * 2
    client.step(ack(make_action(1)))
    assert client.places() == {"sent": [1]}


def test_a_restarted_client_parks_what_was_in_doubt_and_expired(client: MiddleClientUnderTest) -> None:
    drop_file(client.directory, make_action(1, lifetime_s=5.0))
    drop_file(client.directory, make_action(2, lifetime_s=5.0))
    client.step()
    client.start_process()
    client.step(after_s=10.0)
    client.step()
    assert client.places() == {"uncertain": [1], "expired": [2]}


def test_a_crash_between_the_move_and_the_journal_is_made_good(client: MiddleClientUnderTest) -> None:
    drop_file(client.directory, make_action(7))
    client.step()
    path = client.directory / make_action(7).file_name
    (client.directory / "sent").mkdir()
    path.rename(client.directory / "sent" / path.name)
    client.start_process()
    drop_file(client.directory, make_action(6))
    client.step()
    assert client.pending.newest_acknowledged_seq == 7
    assert client.places() == {"sent": [7], "expired": [6]}


def test_a_rename_that_a_power_cut_took_back_is_made_again(client: MiddleClientUnderTest) -> None:
    drop_file(client.directory, make_action(7))
    client.step()
    client.step(ack(make_action(7)))
    path = client.directory / make_action(7).file_name
    (client.directory / "sent" / path.name).rename(path)
    client.start_process()
    client.step()
    assert client.sent_seqs == [7]
    assert client.places() == {"sent": [7]}


@pytest.mark.parametrize("content", [b"", b"\0" * 80, b"[]", b'{"in_flight": 3}', b'{"unknown": 1}'])
def test_a_damaged_journal_is_set_aside(client: MiddleClientUnderTest, content: bytes) -> None:
    drop_file(client.directory / "sent", make_action(4))
    drop_file(client.directory, make_action(3))
    drop_file(client.directory, make_action(5, lifetime_s=5.0))
    client.journal_path.write_bytes(content)
    client.step(after_s=6.0)
    client.step()
    assert client.journal_path.with_name("middle-client.json.damaged").read_bytes() == content
    # The oldest may have been sent: it is in doubt until it is answered.
    assert client.sent_seqs == [3]
    assert json.loads(client.journal_path.read_bytes())["in_flight"] == make_action(3).file_name


def test_nothing_is_sent_that_could_not_be_written_down(
    client: MiddleClientUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.step()
    drop_file(client.directory, make_action(1))

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("semd.service.storage.os.fsync", full)
        with pytest.raises(StorageError, match="disk is full"):
            client.step()
    assert client.link.sent == []
    client.step()
    assert client.sent_seqs == [1]


def test_an_acknowledged_action_is_not_sent_again_because_it_could_not_be_moved(client: MiddleClientUnderTest) -> None:
    drop_file(client.directory, make_action(1))
    client.step()
    (client.directory / "sent").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="move to sent"):
        client.step(ack(make_action(1)))
    with pytest.raises(StorageError, match="move to sent"):
        client.step()
    client.link.drop("the cable")
    client.link.come_back()
    (client.directory / "sent").unlink()
    client.step()
    assert client.sent_seqs == [1]
    assert client.places() == {"sent": [1]}


def test_a_directory_that_vanishes_and_returns(client: MiddleClientUnderTest) -> None:
    client.step()
    client.directory.rename(client.directory.with_name("away"))
    with pytest.raises(StorageError, match="directory is gone"):
        client.step()
    client.directory.with_name("away").rename(client.directory)
    drop_file(client.directory, make_action(1))
    client.step()
    assert client.sent_seqs == [1]
