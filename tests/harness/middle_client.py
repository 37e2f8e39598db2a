"""The Middle Client without its process, on a link and a clock in memory."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path

from harness.outbox import drop_file, make_pending, places
from semd.domain.axes import Axis
from semd.middle_client.abort import AbortFile
from semd.middle_client.aisem_forwarder import AisemForwarder
from semd.middle_client.backoff import Backoff
from semd.middle_client.dry_run import DryRunForwarder
from semd.middle_client.framing import Templates
from semd.middle_client.gate import Gate, RateLimit
from semd.middle_client.text_forwarder import TextForwarder
from semd.protocol.action import Action
from semd.protocol.instrument_profile import GENERIC, InstrumentProfile
from semd.testing import FakeClock, MemoryLink

TOLERANCES = {Axis.WD: 0.002, Axis.BRIGHTNESS: 0.6, Axis.CONTRAST: 0.6}
ANSWER_TIMEOUT_S = {"text": 10.0, "aisem": 5.0}
CONFIRM_TIMEOUT_S = 20.0
BRIGHTNESS_TOO = {Axis.BRIGHTNESS: (40.0, 3.0)}


@dataclass
class MiddleClientUnderTest:
    """Middle Client without a process of its own, with a clock and a link in memory.

    Attributes:
        directory: action files; journal and audit trail lie beside it.
        dialect: `text`, `aisem`, or `dry-text` and `dry-aisem`, which send nothing.
        profile: limits of the instrument.
        most_per_minute: rate limit of the gate.
        templates: of the `aisem` commands for brightness and contrast.
        link, clock: moved by the test.
        forwarder_steps: how often one `step` lets the forwarder work.
    """

    directory: Path
    dialect: str = "text"
    profile: InstrumentProfile = GENERIC
    most_per_minute: int = 600
    templates: Templates = field(default_factory=lambda: Templates("BRT,{value}"))
    link: MemoryLink = field(default_factory=MemoryLink)
    clock: FakeClock = field(default_factory=FakeClock)
    forwarder_steps: int = 1

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.start_process()

    def start_process(self) -> None:
        """Start anew with nothing in memory but what the journal keeps."""
        clock = self.clock.as_clock()
        rate = RateLimit(self.most_per_minute, clock)
        self.pending = make_pending(self.directory, clock, self.profile, rate)
        self.gate = Gate(AbortFile(self.directory), rate)
        self.forwarder: TextForwarder | AisemForwarder | DryRunForwarder
        if self.dialect == "text":
            self.forwarder = TextForwarder(
                self.pending, self.link, clock, gate=self.gate, answer_timeout_s=ANSWER_TIMEOUT_S["text"],
                backoff=Backoff(1.0, 8.0, random.Random(0)),
            )  # fmt: skip
        elif self.dialect == "aisem":
            self.forwarder = AisemForwarder(
                self.pending, self.link, clock, gate=self.gate, templates=self.templates, tolerances=TOLERANCES,
                answer_timeout_s=ANSWER_TIMEOUT_S["aisem"], confirm_timeout_s=CONFIRM_TIMEOUT_S,
            )  # fmt: skip
        else:
            self.forwarder = DryRunForwarder(
                self.pending, self.gate, self.templates if self.dialect == "dry-aisem" else None
            )

    def step(self, *answers: bytes | str, after_s: float = 0.0) -> None:
        """Let time pass and answers arrive (a `str` as a line of the `text` dialect), then let the forwarder work."""
        self.clock.advance(after_s)
        self.link.inbox += [f"{answer}\n".encode() if isinstance(answer, str) else answer for answer in answers]
        for _ in range(self.forwarder_steps):
            self.forwarder.step()

    @property
    def journal_path(self) -> Path:
        return self.directory.parent / "middle-client.json"

    @property
    def audit(self) -> Path:
        return self.directory.parent / "audit"

    @property
    def sent_seqs(self) -> list[int]:
        """SEQ of each message of the `text` dialect that was sent."""
        return [int(message.split(b"SEQ=")[1].split(b"\n")[0]) for message in self.link.sent]

    def lines(self, name: str = "commands-2026-01.jsonl") -> list[dict[str, object]]:
        """Lines of one month's file of the audit trail; none without the file."""
        path = self.audit / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def drop(self, action: Action) -> Action:
        drop_file(self.directory, action)
        return action

    @property
    def abort(self) -> AbortFile:
        return AbortFile(self.directory)

    def raise_abort(self) -> None:
        self.abort.raise_it(self.clock.now())

    def places(self) -> dict[str, list[int]]:
        return places(self.directory)

    def trail(self) -> list[tuple[str, object]]:
        """(event, command or answer) of every line."""
        lines = [
            json.loads(line)
            for path in sorted(self.directory.parent.glob("audit/*.jsonl"))
            for line in path.read_text().splitlines()
        ]
        return [(line["event"], line.get("answer", line.get("command"))) for line in lines]


def ack(action: Action) -> bytes:
    return f"ACK {action.id}\n".encode()
