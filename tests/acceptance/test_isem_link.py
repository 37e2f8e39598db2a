"""The independent SEM's protocol check and its two links, driven by hand-made messages."""

from __future__ import annotations

import datetime as dt
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from isem_aisem import REPLY, AisemServer, WdMag
from isem_column import Knobs
from isem_protocol import MalformedActionError, ReadAction, read_action
from isem_server import LinkFaults, SemServer, TextServer
from isem_stand_in import compose, fields_for
from isem_writer import FrameRecord

AXES = ("wd", "brightness", "contrast")


def frame(number: int = 1) -> FrameRecord:
    now = dt.datetime.now(dt.UTC)
    return FrameRecord(number, f"frame-{number:06d}", Knobs(2000.0, 9.9, 40.0, 60.0), 9.0, True, "aa", "bb", now)


def message(seq: int, *, lifetime_s: float = 60.0, changed: dict[str, str] | None = None) -> bytes:
    targets = {"wd": 9.7, "brightness": 45.0, "contrast": 55.0}
    fields = fields_for(frame(seq), seq, "ADJUST", targets, lifetime_s=lifetime_s)
    return compose({**fields, **(changed or {})})


def test_good_action_is_read_whole() -> None:
    action = read_action(message(7), AXES)
    assert (action.seq, action.status, action.frame) == (7, "ADJUST", "frame-000007")
    assert action.targets == {"wd": 9.7, "brightness": 45.0, "contrast": 55.0}
    assert action.deltas["wd"] == pytest.approx(-0.2)
    assert (action.score, action.reward, action.step) == (4.25, -0.5, 6)


def test_checksum_is_the_bitwise_crc_32_of_everything_before_its_line() -> None:
    payload = message(7)
    register = 0xFFFFFFFF
    for byte in payload[: -len("CRC32=01234567\n")]:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0xEDB88320 if register & 1 else 0)
    assert payload.endswith(f"CRC32={register ^ 0xFFFFFFFF:08x}\n".encode())


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "crc": lambda m: m[:-2] + (b"0" if m[-2:-1] != b"0" else b"1") + b"\n",
    "body changed": lambda m: m.replace(b"SCORE=4.25", b"SCORE=4.26"),
    "crlf": lambda m: m.replace(b"\n", b"\r\n"),
    "no end": lambda m: m[:-1],
    "empty line": lambda m: m + b"\n",
    "latin": lambda m: m.replace(b"frame-", b"fr\xe4me-"),
    "too long": lambda m: m.replace(b"frame-", b"f" * 4096),
}


@pytest.mark.parametrize("fault", sorted(BROKEN))
def test_broken_bytes_are_refused(fault: str) -> None:
    with pytest.raises(MalformedActionError):
        read_action(BROKEN[fault](message(3)), AXES)


@pytest.mark.parametrize(
    "changed",
    [
        {"WD": "9.70"},
        {"WD": "nan"},
        {"BRIGHTNESS": "45.0000"},
        {"CONTRAST": "55"},
        {"ID": "12"},
        {"STATUS": "MOVE"},
        {"SCORE": "10.5"},
        {"REWARD": ""},
        {"ISSUED": "2026-01-01T00:00:00Z"},
        {"EXPIRES": "2020-01-01T00:00:00.000Z"},
        {"SEQ": "-1"},
        {"EXTRA": "1"},
    ],
)
def test_broken_fields_are_refused_despite_a_right_checksum(changed: dict[str, str]) -> None:
    with pytest.raises(MalformedActionError):
        read_action(message(3, changed=changed), AXES)


def test_order_of_fields_and_axes_count() -> None:
    fields = fields_for(frame(), 1, "ADJUST", {"wd": 9.7})
    assert read_action(compose(fields), ("wd",)).targets == {"wd": 9.7}
    with pytest.raises(MalformedActionError, match="keys are"):
        read_action(compose(fields), AXES)
    with pytest.raises(MalformedActionError, match="keys are"):
        read_action(compose(dict(reversed(fields.items()))), ("wd",))


@contextmanager
def listening(server: SemServer) -> Iterator[SemServer]:
    server.listen()
    try:
        yield server
    finally:
        server.close()


@contextmanager
def connected(server: SemServer) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10.0) as link:
        yield link


def ask(link: socket.socket, payload: bytes) -> str:
    """Send one message and return the answer line; empty when the SEM closed."""
    link.sendall(payload + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        try:
            data = link.recv(1024)
        except ConnectionResetError:
            data = b""
        if not data:
            break
        answer += data
    return answer.decode().strip()


def text_server(applied: list[ReadAction], faults: LinkFaults | None = None) -> TextServer:
    return TextServer(AXES, applied.append, faults or LinkFaults())


def test_text_applies_each_id_once_and_acknowledges_again() -> None:
    applied: list[ReadAction] = []
    server = text_server(applied)
    with listening(server):
        with connected(server) as link:
            first = message(1)
            # Split across writes; two messages in one write.
            link.sendall(first[:50])
            time.sleep(0.02)
            assert ask(link, first[50:]) == f"ACK {applied[0].action_id}"
            link.sendall(message(2) + b"\n" + message(3) + b"\n")
            lines = link.makefile("r")
            with lines:
                assert [lines.readline()[:3] for _ in range(2)] == ["ACK", "ACK"]
        with connected(server) as link:
            second = applied[1].payload
            assert ask(link, second) == f"ACK {applied[1].action_id}"
    assert [action.seq for action in applied] == [1, 2, 3]
    assert server.order.receipts[applied[1].action_id] == 2
    assert server.violations == [v for v in server.violations if "older" in v]
    assert len(server.violations) == 1


def test_text_faults() -> None:
    applied: list[ReadAction] = []
    faults = LinkFaults(
        lose=frozenset({1}),
        drop_before_answer=frozenset({2}),
        drop_after_answer=frozenset({3}),
        drop_mid_answer=frozenset({4}),
        busy={5: 2},
        refuse=frozenset({6}),
    )
    server = text_server(applied, faults)
    ids = []
    with listening(server):
        for seq, first_answer in ((1, ""), (2, ""), (3, "ACK"), (4, "ACK "), (5, "BUSY")):
            payload = message(seq)
            ids.append(read_action(payload, AXES).action_id)
            with connected(server) as link:
                got = ask(link, payload)
                assert got[:4].strip() == first_answer.strip()
                assert (got == f"ACK {ids[-1]}") == (seq == 3)
                if seq == 5:
                    assert ask(link, payload) == f"BUSY {ids[-1]}"
                if seq != 5:
                    assert link.recv(10) == b""
            if seq != 3:
                with connected(server) as link:
                    assert ask(link, payload) == f"ACK {ids[-1]}"
        with connected(server) as link:
            assert ask(link, message(6)).startswith("NAK ")
    assert [action.action_id for action in applied] == ids
    assert server.excused == {ids[0]: 1, ids[1]: 1, ids[2]: 1, ids[3]: 1, ids[4]: 2}
    assert [action.seq for action in server.refused] == [6]
    assert server.violations == []


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        (lambda: [message(1, lifetime_s=0.001)], "after EXPIRES"),
        (lambda: [message(2), message(1)], "came before"),
        (lambda: [message(seq, changed={"ID": "ab" * 16}) for seq in (1, 2)], "other bytes"),
        (lambda: [(same := message(1)), same], "on the connection that had acknowledged"),
        (lambda: [b"SEMD-ACTION=1\nID=zz\n"], "keys are"),
    ],
)
def test_text_reports_violations(messages: Callable[[], list[bytes]], complaint: str) -> None:
    server = text_server([])
    with listening(server), connected(server) as link:
        for payload in messages():
            time.sleep(0.003)
            ask(link, payload)
    assert any(complaint in violation for violation in server.violations), server.violations


def test_text_survives_a_restart_of_the_sem_on_the_same_port() -> None:
    applied: list[ReadAction] = []
    server = text_server(applied)
    server.listen()
    port = server.port
    server.close()
    with pytest.raises(ConnectionRefusedError), connected(server):
        pass
    server.listen()
    try:
        assert server.port == port
        with connected(server) as link:
            assert ask(link, message(1)).startswith("ACK")
    finally:
        server.close()


def greet(link: socket.socket) -> None:
    for part in (b"Connected.", b"COMM.START.", b"READY"):
        link.sendall(part)
        time.sleep(0.005)


def test_aisem_carries_out_commands_and_replies_in_korean() -> None:
    commands: list[WdMag] = []
    server = AisemServer(commands.append, lambda: False)
    with listening(server), connected(server) as link:
        greet(link)
        for wd in ("9.7000", "9.65"):
            link.sendall(f"WDMAG,{wd},2000".encode())
            assert link.recv(4096).decode("euc-kr") == REPLY
        link.sendall(b"FINISH")
        assert link.recv(10) == b""
    assert commands == [WdMag(9.7, 2000.0), WdMag(9.65, 2000.0)]
    assert server.violations == []


@pytest.mark.parametrize(
    ("parts", "scanning", "complaint"),
    [
        ([b"READY"], False, "began with"),
        ([b"Connected.COMM.START.READY", b"WDMAG,9.7,2000\n"], False, "without terminator"),
        ([b"Connected.COMM.START.READY", b"WDMAG,9.7,2000WDMAG,9.7,2000"], False, "not one command"),
        ([b"Connected.COMM.START.READY", b"WDMAG,9.7,2000"], True, "before the frame"),
        ([b"Connected.COMM.START.READY", b"WDMAG,9.7,2000", b"WDMAG,9.6,2000"], False, "before the reply"),
    ],
)
def test_aisem_reports_violations(parts: list[bytes], scanning: bool, complaint: str) -> None:
    server = AisemServer(lambda command: None, lambda: scanning, reply_delay_s=0.3)
    with listening(server), connected(server) as link:
        for part in parts:
            link.sendall(part)
            time.sleep(0.15)
        deadline = time.monotonic() + 5.0
        while not server.violations and time.monotonic() < deadline:
            time.sleep(0.01)
    assert any(complaint in violation for violation in server.violations), server.violations


def test_aisem_drops_instead_of_the_reply() -> None:
    commands: list[WdMag] = []
    server = AisemServer(commands.append, lambda: False, drop_before_reply=frozenset({1}))
    with listening(server), connected(server) as link:
        greet(link)
        link.sendall(b"WDMAG,9.7,2000")
        assert link.recv(100) == b""
    assert commands == [WdMag(9.7, 2000.0)]
