"""The `aisem` dialect: no ids, so a command is sent once and confirmed only by a frame that shows it (protocol, 3).

The client reads no images. Each frame is answered by one action file, and the values read on that frame are the
action's targets less its deltas: that is the read-back.

Frames may be on their way that were scanned before a command was carried out: an operator pressed the scan button, or a
reply was lost. Their actions must neither be taken for the answer to the command nor be sent. So a command waits for an
action whose read-back shows it. The actions before that one are superseded. When none shows it, the frames on their way
are given time to arrive; then the newest action tells what the microscope does, and the older ones are superseded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from semd.domain.axes import Axis
from semd.errors import LinkError
from semd.middle_client.action_folder import Outcome
from semd.middle_client.clock import Clock
from semd.middle_client.desk import Desk, Flight
from semd.middle_client.framing import Templates, aisem_commands, aisem_moved_axes, aisem_reply
from semd.middle_client.gate import Gate
from semd.middle_client.link import Link
from semd.protocol.action import Action
from semd.service.failpoints import Failpoint, reach

_FRAMES_ON_THEIR_WAY = 2
"""Frames from before a command that may still be answered after it: one being scored, one waiting for it."""

_TURNAROUNDS = 2.0
_SPARE_S = 1.0
"""Time given to frames on their way: this many times the time from a command to its frame's answer, and a second."""

_UNLEARNED_S = 15.0
"""The same until a command has been confirmed: a slow scan and a slow processor. Chosen; a mistake costs one move that
answers an older frame, and the next frame corrects it."""


@dataclass(slots=True)
class _Dialogue:
    """Progress of one action's commands.

    Attributes:
        name: the action's file.
        commands: to be sent one after the other.
        replied: how many the SEM has replied to.
        awaiting: connection on which a reply is awaited, or None.
        sent_s: when the last command was sent.
        since_s: when the last command was sent or the confirmation began to be waited for.
        doubt: why it is not known whether a command arrived; empty when it is.
    """

    name: str
    commands: tuple[bytes, ...]
    replied: int = 0
    awaiting: int | None = None
    sent_s: float = 0.0
    since_s: float = 0.0
    doubt: str = ""


class AisemForwarder:
    """Sends one command at a time and waits for the frame that confirms it. Never sends one twice.

    Args:
        desk: where actions come from and go.
        link: to the SEM.
        clock: for waiting.
        gate: asked before each command.
        templates: commands for brightness and contrast, if any.
        tolerances: largest difference between commanded and read value, in the axis's unit.
        answer_timeout_s: silence after a command that counts as a broken link.
        confirm_timeout_s: how long the next frame's answer may take.
    """

    def __init__(
        self,
        desk: Desk,
        link: Link,
        clock: Clock,
        *,
        gate: Gate,
        templates: Templates,
        tolerances: Mapping[Axis, float],
        answer_timeout_s: float,
        confirm_timeout_s: float,
    ) -> None:
        self._desk = desk
        self._link = link
        self._clock = clock
        self._gate = gate
        self._templates = templates
        self._tolerances = tolerances
        self._answer_timeout_s = answer_timeout_s
        self._confirm_timeout_s = confirm_timeout_s
        self._dialogue: _Dialogue | None = None
        self._log = structlog.get_logger()

    def step(self) -> None:
        """Do what can be done without waiting.

        Raises:
            StorageError: a file cannot be read, written or moved; call again.
        """
        try:
            self._take_replies()
        except LinkError as error:
            self._lose(error.message)
        try:
            flight = self._desk.take(newest_only=True)
            if flight is not None:
                self._forward(flight)
        except LinkError as error:
            self._lose(error.message)

    def _lose(self, reason: str) -> None:
        self._desk.note_answer(f"none: {reason}")
        self._link.drop(reason)

    def _forward(self, flight: Flight) -> None:
        if self._dialogue is None or self._dialogue.name != flight.name:
            self._dialogue = self._open(flight)
        dialogue = self._dialogue
        if dialogue is None:
            return
        if dialogue.awaiting is not None:
            self._watch_reply(dialogue)
        if dialogue.awaiting is not None:
            return
        if dialogue.doubt or dialogue.replied == len(dialogue.commands):
            self._confirm(flight, dialogue)
        elif not dialogue.replied and self._desk.read_later_than(flight.action.seq):
            # Nothing of it was sent, as while the link is down, and a newer frame has been answered meanwhile.
            self._desk.settle(Outcome.EXPIRED, "superseded: a newer frame was answered")
        elif self._desk.is_expired(flight.action):
            outcome = Outcome.UNCERTAIN if dialogue.replied else Outcome.EXPIRED
            self._desk.settle(outcome, f"not all of it sent before {flight.action.expires.isoformat()}")
        elif self._link.is_up and self._gate.is_open():
            self._send(dialogue)

    def _open(self, flight: Flight) -> _Dialogue | None:
        """Begin with an action; None when nothing is to be sent for it."""
        try:
            commands = aisem_commands(flight.action, self._templates)
        except LinkError as error:
            self._desk.settle(Outcome.REFUSED, error.message)
            return None
        if not commands:
            self._desk.settle(Outcome.SENT, "no scan is asked for")
            return None
        dialogue = _Dialogue(flight.name, commands, since_s=self._clock.monotonic_s())
        if flight.was_sent:
            dialogue.doubt = "it was being sent when the Middle Client ended"
        return dialogue

    def _send(self, dialogue: _Dialogue) -> None:
        # Whatever answers are in the directory by now belong to frames from before this command.
        names = self._desk.scan().names
        highest = max((int(name.split("-")[1]) for name in names), default=0)
        stray = self._link.receive()
        if stray:
            self._log.warning("link.stray-answer", text=aisem_reply(stray))
        command = dialogue.commands[dialogue.replied]
        text = command.decode("euc-kr", "replace")
        self._desk.note_sending(command, command=text, baseline_seq=highest)
        if not self._gate.passes():
            self._desk.note_unsent("aborted")
            return
        dialogue.awaiting = self._link.connection
        dialogue.sent_s = dialogue.since_s = self._clock.monotonic_s()
        self._link.send(command)
        reach(Failpoint.SENT)
        self._log.info("link.command", command=text)

    def _take_replies(self) -> None:
        data = self._link.receive()
        if not data:
            return
        dialogue = self._dialogue
        if dialogue is None or dialogue.awaiting != self._link.connection:
            self._log.warning("link.stray-answer", text=aisem_reply(data))
            return
        reach(Failpoint.ANSWERED)
        dialogue.replied += 1
        dialogue.awaiting = None
        dialogue.since_s = self._clock.monotonic_s()
        self._desk.note_answer(f"reply {aisem_reply(data)}")
        self._log.info("link.reply", text=aisem_reply(data))

    def _watch_reply(self, dialogue: _Dialogue) -> None:
        """Notice that no reply will come: the command is in doubt then."""
        if self._link.is_up and dialogue.awaiting == self._link.connection:
            if self._clock.monotonic_s() - dialogue.since_s <= self._answer_timeout_s:
                return
            # A late reply could be taken for that of the next command: begin afresh.
            self._lose(f"no reply within {self._answer_timeout_s:g} s")
        dialogue.doubt = "the link broke before the reply"
        dialogue.awaiting = None
        dialogue.since_s = self._clock.monotonic_s()

    def _confirm(self, flight: Flight, dialogue: _Dialogue) -> None:
        """End the action by the read-back of a later frame, or as uncertain when none shows it."""
        seq, waited_s = flight.action.seq, self._clock.monotonic_s() - dialogue.since_s
        # Answers that lay here when the command was sent belong to frames from before it.
        later = self._desk.read_later_than(max(flight.baseline_seq, seq))
        shown = next((each for each in later if not self._differences(flight.action, each)), None)
        if shown is not None:
            if not dialogue.doubt:
                took_s = self._clock.monotonic_s() - self._desk.pending_s(shown) - dialogue.sent_s
                self._desk.turnaround_s = max(took_s, self._desk.turnaround_s)
            self._supersede(seq, shown.seq)
            self._desk.settle(Outcome.SENT, dialogue.doubt and f"{dialogue.doubt}; the frame shows it")
        elif later and self._have_all_arrived(later):
            self._supersede(seq, later[-1].seq)
            reasons = [*self._differences(flight.action, later[-1]), dialogue.doubt]
            self._desk.settle(Outcome.UNCERTAIN, "; ".join(reason for reason in reasons if reason))
        elif not later and waited_s > self._confirm_timeout_s:
            self._supersede(seq, flight.baseline_seq + 1)
            reasons = [f"no frame within {self._confirm_timeout_s:g} s", dialogue.doubt]
            self._desk.settle(Outcome.UNCERTAIN, "; ".join(reason for reason in reasons if reason))

    def _supersede(self, after_seq: int, before_seq: int) -> None:
        reason = f"it answers a frame scanned before the command of SEQ {after_seq} was carried out"
        self._desk.supersede_between(after_seq, before_seq, reason)

    def _have_all_arrived(self, later: tuple[Action, ...]) -> bool:
        """Return True once no frame from before the command can still be on its way.

        The time from a command to its frame's answer is learned from commands that were confirmed.
        """
        if len(later) > _FRAMES_ON_THEIR_WAY:
            return True
        learned_s = self._desk.turnaround_s
        drain_s = _TURNAROUNDS * learned_s + _SPARE_S if learned_s else _UNLEARNED_S
        newest = later[-1]
        # It must still be sendable then.
        most_s = min(self._confirm_timeout_s, (newest.expires - newest.issued).total_seconds() / 2.0)
        return self._desk.pending_s(newest) >= min(drain_s, most_s)

    def _differences(self, commanded: Action, after: Action) -> list[str]:
        """Commanded values that the frame answered by `after` does not show."""
        axes = {Axis.WD, *aisem_moved_axes(commanded, self._templates)}
        found = []
        for axis in sorted(axes & after.targets.keys()):
            read = after.targets[axis] - after.deltas[axis]
            # The values carry four or three decimals: an exact comparison would count their rounding.
            if abs(read - commanded.targets[axis]) > self._tolerances[axis] + 1e-9:
                found.append(f"{axis} reads back {read:.4f} and not {commanded.targets[axis]:.4f}")
        return found
