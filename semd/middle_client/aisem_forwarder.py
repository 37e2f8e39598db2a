"""The `aisem` dialect, which has no ids: a command is sent once and confirmed by the read-back of a later frame.

See section 3 of the protocol. The client reads no images. Each frame is answered by one action file, and the settings
of that frame are the action's targets minus its deltas. These settings are the read-back.

Frames that were scanned before a command was carried out may still be waiting for their answers, for example because an
operator started a scan or a reply was lost. Their actions must neither confirm the command nor be sent. A command
therefore waits for an action whose read-back shows the commanded values, and all actions before it are superseded. If
no read-back shows them, the client waits until the older frames must have been answered. The newest action then gives
the settings of the microscope, and the older ones are superseded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from semd.domain.axes import Axis
from semd.errors import LinkError
from semd.middle_client.action_folder import Outcome
from semd.middle_client.clock import Clock
from semd.middle_client.framing import Templates, aisem_commands, aisem_moved_axes, aisem_reply
from semd.middle_client.gate import Gate
from semd.middle_client.link import Link
from semd.middle_client.pending import InFlightAction, PendingActions
from semd.protocol.action import Action
from semd.service.failpoints import Failpoint, reach

_DRAIN_TURNAROUNDS = 2.0
_DRAIN_MARGIN_S = 1.0
"""Waiting time for older frames: this multiple of the turnaround (command to the answer of its frame) plus a margin."""

_DEFAULT_DRAIN_S = 15.0
"""Waiting time for older frames until the turnaround is known, chosen for a slow scan and a slow processor. If it is
too short, one action that answers an older frame is sent, and the next frame corrects it."""


@dataclass(slots=True)
class _Dialogue:
    """Progress of the commands of one action.

    Attributes:
        name: name of the action file.
        commands: commands in the order of sending.
        replied: number of commands that the SEM has replied to.
        awaiting: number of the connection on which a reply is awaited, or None.
        sent_s: monotonic time at which the last command was sent.
        since_s: monotonic time at which the present wait began, for a reply or for confirmation.
        delivery_unknown: reason why it is unknown whether a command arrived; empty if it is known.
    """

    name: str
    commands: tuple[bytes, ...]
    replied: int = 0
    awaiting: int | None = None
    sent_s: float = 0.0
    since_s: float = 0.0
    delivery_unknown: str = ""


class AisemForwarder:
    """Sender of `aisem` commands, one at a time, each at most once and each confirmed by a frame.

    Args:
        pending: the pending actions.
        link: connection to the SEM.
        clock: time source of the timeouts.
        gate: abort and rate limit, checked before each command.
        templates: commands for brightness and contrast, if known.
        tolerances: largest accepted difference between commanded value and read-back, in the unit of the axis.
        answer_timeout_s: time without a reply after which the link counts as broken.
        confirm_timeout_s: longest wait for the answer to the next frame.
    """

    def __init__(
        self,
        pending: PendingActions,
        link: Link,
        clock: Clock,
        *,
        gate: Gate,
        templates: Templates,
        tolerances: Mapping[Axis, float],
        answer_timeout_s: float,
        confirm_timeout_s: float,
    ) -> None:
        self._pending = pending
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
        """Advance as far as possible without blocking.

        Raises:
            StorageError: a file cannot be read, written or moved; call again.
        """
        try:
            self._take_replies()
        except LinkError as error:
            self._lose(error.message)
        try:
            in_flight = self._pending.take(newest_only=True)
            if in_flight is not None:
                self._forward(in_flight)
        except LinkError as error:
            self._lose(error.message)

    def _lose(self, reason: str) -> None:
        self._pending.note_answer(f"none: {reason}")
        self._link.drop(reason)

    def _forward(self, in_flight: InFlightAction) -> None:
        if self._dialogue is None or self._dialogue.name != in_flight.name:
            self._dialogue = self._open(in_flight)
        dialogue = self._dialogue
        if dialogue is None:
            return
        if dialogue.awaiting is not None:
            self._watch_reply(dialogue)
        if dialogue.awaiting is not None:
            return
        if dialogue.delivery_unknown or dialogue.replied == len(dialogue.commands):
            self._confirm(in_flight, dialogue)
        elif not dialogue.replied and self._pending.read_later_than(in_flight.action.seq):
            # No command of it was sent, for example while the link was down, and a newer frame has been answered since.
            self._pending.settle(Outcome.EXPIRED, "superseded: a newer frame was answered")
        elif self._pending.is_expired(in_flight.action):
            outcome = Outcome.UNCERTAIN if dialogue.replied else Outcome.EXPIRED
            self._pending.settle(outcome, f"not all of it sent before {in_flight.action.expires.isoformat()}")
        elif self._link.is_up and self._gate.is_open():
            self._send(dialogue)

    def _open(self, in_flight: InFlightAction) -> _Dialogue | None:
        """Start the commands of an action; None if it has none, and then it is filed."""
        try:
            commands = aisem_commands(in_flight.action, self._templates)
        except LinkError as error:
            self._pending.settle(Outcome.REFUSED, error.message)
            return None
        if not commands:
            self._pending.settle(Outcome.SENT, "no scan is asked for")
            return None
        dialogue = _Dialogue(in_flight.name, commands, since_s=self._clock.monotonic_s())
        if in_flight.was_sent:
            dialogue.delivery_unknown = "it was being sent when the Middle Client ended"
        return dialogue

    def _send(self, dialogue: _Dialogue) -> None:
        # Actions that are in the directory now answer frames scanned before this command.
        names = self._pending.scan().names
        highest = max((int(name.split("-")[1]) for name in names), default=0)
        stray = self._link.receive()
        if stray:
            self._log.warning("link.stray-answer", text=aisem_reply(stray))
        command = dialogue.commands[dialogue.replied]
        text = command.decode("euc-kr", "replace")
        self._pending.note_sending(command, command=text, baseline_seq=highest)
        if not self._gate.passes():
            self._pending.note_unsent("aborted")
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
        self._pending.note_answer(f"reply {aisem_reply(data)}")
        self._log.info("link.reply", text=aisem_reply(data))

    def _watch_reply(self, dialogue: _Dialogue) -> None:
        """Detect that no reply will come; it is then unknown whether the command arrived."""
        if self._link.is_up and dialogue.awaiting == self._link.connection:
            if self._clock.monotonic_s() - dialogue.since_s <= self._answer_timeout_s:
                return
            # Reconnect: on the same connection a late reply could be taken for the reply to the next command.
            self._lose(f"no reply within {self._answer_timeout_s:g} s")
        dialogue.delivery_unknown = "the link broke before the reply"
        dialogue.awaiting = None
        dialogue.since_s = self._clock.monotonic_s()

    def _confirm(self, in_flight: InFlightAction, dialogue: _Dialogue) -> None:
        """File the action as sent once a later frame shows its values, or as uncertain if none does."""
        seq, waited_s = in_flight.action.seq, self._clock.monotonic_s() - dialogue.since_s
        # Actions that were already pending when the command was sent answer frames scanned before it.
        later = self._pending.read_later_than(max(in_flight.baseline_seq, seq))
        shown = next((each for each in later if not self._differences(in_flight.action, each)), None)
        if shown is not None:
            if not dialogue.delivery_unknown and self._differences(in_flight.action, in_flight.action):
                # An older frame shows the target of a command that moves nothing, so only a move gives the turnaround.
                took_s = self._clock.monotonic_s() - self._pending.age_s(shown) - dialogue.sent_s
                self._pending.turnaround_s = max(took_s, self._pending.turnaround_s)
            self._supersede(seq, shown.seq)
            self._pending.settle(
                Outcome.SENT, dialogue.delivery_unknown and f"{dialogue.delivery_unknown}; the frame shows it"
            )
        elif later and self._is_drained(later[-1], waited_s):
            self._supersede(seq, later[-1].seq)
            reasons = [*self._differences(in_flight.action, later[-1]), dialogue.delivery_unknown]
            self._pending.settle(Outcome.UNCERTAIN, "; ".join(reason for reason in reasons if reason))
        elif not later and waited_s > self._confirm_timeout_s:
            self._supersede(seq, in_flight.baseline_seq + 1)
            reasons = [f"no frame within {self._confirm_timeout_s:g} s", dialogue.delivery_unknown]
            self._pending.settle(Outcome.UNCERTAIN, "; ".join(reason for reason in reasons if reason))

    def _supersede(self, after_seq: int, before_seq: int) -> None:
        reason = f"it answers a frame scanned before the command of SEQ {after_seq} was carried out"
        self._pending.supersede_between(after_seq, before_seq, reason)

    def _is_drained(self, newest: Action, waited_s: float) -> bool:
        """Return True once no frame scanned before the command can still be unanswered.

        Any number of scans may have been queued before the command, so their number says nothing. Queued frames are
        answered within a turnaround of one another. They are drained once no new action has come for longer than that.
        If frames keep coming, the wait ends after the confirmation timeout. The turnaround, from a command to the
        answer of its frame, is measured on confirmed commands that moved an axis.
        """
        if waited_s > self._confirm_timeout_s:
            return True
        turnaround_s = self._pending.turnaround_s
        drain_s = _DRAIN_TURNAROUNDS * turnaround_s + _DRAIN_MARGIN_S if turnaround_s else _DEFAULT_DRAIN_S
        # The newest action must not expire during the wait.
        limit_s = min(self._confirm_timeout_s, (newest.expires - newest.issued).total_seconds() / 2.0)
        return self._pending.age_s(newest) >= min(drain_s, limit_s)

    def _differences(self, commanded: Action, after: Action) -> list[str]:
        """List the axes whose read-back, from the frame answered by `after`, differs from the commanded value."""
        axes = {Axis.WD, *aisem_moved_axes(commanded, self._templates)}
        found = []
        for axis in sorted(axes & after.targets.keys()):
            read = after.targets[axis] - after.deltas[axis]
            # The values are rounded to three or four decimals; 1e-9 absorbs the error of their binary form.
            if abs(read - commanded.targets[axis]) > self._tolerances[axis] + 1e-9:
                found.append(f"{axis} reads back {read:.4f} and not {commanded.targets[axis]:.4f}")
        return found
