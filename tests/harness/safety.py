"""What the tests of safety on the instrument share: a Middle Client without process, with a link of lists."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path

from harness.outbox import ListLink, SetClock, drop_file, make_desk, make_gate, places
from semd.domain.axes import Axis
from semd.middle_client.abort import AbortFile
from semd.middle_client.aisem_forwarder import AisemForwarder
from semd.middle_client.backoff import Backoff
from semd.middle_client.clock import Clock
from semd.middle_client.dry_run import DryRunForwarder
from semd.middle_client.framing import Templates
from semd.middle_client.text_forwarder import TextForwarder
from semd.protocol.action import Action
from semd.protocol.instrument_profile import GENERIC, InstrumentProfile

TOLERANCES = {Axis.WD: 0.002, Axis.BRIGHTNESS: 0.6, Axis.CONTRAST: 0.6}
BRIGHTNESS_TOO = {Axis.BRIGHTNESS: (40.0, 3.0)}


@dataclass
class Stand:
    directory: Path
    dialect: str = "text"
    profile: InstrumentProfile = GENERIC
    most_per_minute: int = 600
    link: ListLink = field(default_factory=ListLink)
    clock: SetClock = field(default_factory=SetClock)

    def __post_init__(self) -> None:
        self.directory.mkdir(exist_ok=True)
        self.start_process()

    def start_process(self) -> None:
        clock = Clock(self.clock.now, self.clock.monotonic_s)
        self.desk = make_desk(self.directory, clock, self.profile)
        self.gate = make_gate(self.directory, clock, self.most_per_minute)
        self.forwarder: TextForwarder | AisemForwarder | DryRunForwarder
        if self.dialect == "text":
            backoff = Backoff(1.0, 8.0, random.Random(0))
            self.forwarder = TextForwarder(
                self.desk, self.link, clock, gate=self.gate, answer_timeout_s=10.0, backoff=backoff
            )
        elif self.dialect == "aisem":
            self.forwarder = AisemForwarder(
                self.desk, self.link, clock, gate=self.gate, templates=Templates("BRT,{value}"),
                tolerances=TOLERANCES, answer_timeout_s=5.0, confirm_timeout_s=20.0,
            )  # fmt: skip
        else:
            templates = Templates("BRT,{value}") if self.dialect == "dry-aisem" else None
            self.forwarder = DryRunForwarder(self.desk, self.gate, templates)

    def step(self, *answers: bytes, after_s: float = 0.0) -> None:
        self.clock.seconds += after_s
        self.link.inbox += answers
        self.forwarder.step()

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
