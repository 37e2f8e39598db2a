"""The `text` dialect: one action at a time, in the order of SEQ (protocol, section 3)."""

from __future__ import annotations

import structlog

from semd.errors import LinkError
from semd.middle_client.action_folder import Outcome
from semd.middle_client.backoff import Backoff
from semd.middle_client.clock import Clock
from semd.middle_client.framing import SemReply, SemReplyReader, Verdict, text_message
from semd.middle_client.gate import Gate
from semd.middle_client.link import Link
from semd.middle_client.pending import InFlightAction, PendingActions
from semd.service.failpoints import Failpoint, reach


class TextForwarder:
    """Sender of pending actions in the `text` dialect.

    Sending an action again is safe in this dialect: the SEM acknowledges an id that it has already applied and does
    not apply it again. An unanswered action is therefore sent again, unchanged, after reconnecting until it expires.

    Args:
        pending: the pending actions.
        link: connection to the SEM.
        clock: time source of the timeouts.
        gate: abort and rate limit, checked before each send.
        answer_timeout_s: time without an answer after which the link counts as broken.
        backoff: waiting times after BUSY.
    """

    def __init__(
        self,
        pending: PendingActions,
        link: Link,
        clock: Clock,
        *,
        gate: Gate,
        answer_timeout_s: float,
        backoff: Backoff,
    ) -> None:
        self._pending = pending
        self._link = link
        self._clock = clock
        self._gate = gate
        self._answer_timeout_s = answer_timeout_s
        self._backoff = backoff
        self._reader = SemReplyReader()
        self._reading = 0
        self._awaiting: tuple[str, int] | None = None
        self._last_sent = ""
        self._sent_at_s = 0.0
        self._not_before_s = 0.0
        self._log = structlog.get_logger()

    def step(self) -> None:
        """Advance as far as possible without blocking.

        Raises:
            StorageError: a file cannot be read, written or moved; call again.
        """
        try:
            self._take_answers()
            in_flight = self._pending.take()
            if in_flight is not None:
                self._forward(in_flight)
        except LinkError as error:
            self._pending.note_answer(f"none: {error.message}")
            self._link.drop(error.message)
            self._reader = SemReplyReader()  # a partial line must not be joined with the next connection's bytes

    def _forward(self, in_flight: InFlightAction) -> None:
        now_s = self._clock.monotonic_s()
        if self._link.is_up and self._awaiting == (in_flight.name, self._link.connection):
            if now_s - self._sent_at_s > self._answer_timeout_s:
                raise LinkError(f"no answer within {self._answer_timeout_s:g} s")
            return
        if self._pending.is_expired(in_flight.action):
            self._end_expired(in_flight)
        elif self._link.is_up and now_s >= self._not_before_s and self._gate.is_open():
            self._send(in_flight)

    def _send(self, in_flight: InFlightAction) -> None:
        message = text_message(in_flight.data)
        self._pending.note_sending(message)
        if not self._gate.passes():
            self._pending.note_unsent("aborted")
            return
        self._awaiting = (in_flight.name, self._link.connection)
        self._last_sent = in_flight.name
        self._sent_at_s = self._clock.monotonic_s()
        self._link.send(message)
        reach(Failpoint.SENT)

    def _end_expired(self, in_flight: InFlightAction) -> None:
        until = in_flight.action.expires.isoformat()
        if in_flight.was_sent:
            self._pending.settle(Outcome.UNCERTAIN, f"sent, and not answered before {until}")
        else:
            self._pending.settle(Outcome.EXPIRED, f"the SEM did not take it before {until}")

    def _take_answers(self) -> None:
        if self._reading != self._link.connection:
            self._reader, self._reading = SemReplyReader(), self._link.connection
        for answer in self._reader.feed(self._link.receive()):
            in_flight = self._pending.in_flight
            if in_flight is not None and answer.id == in_flight.action.id and self._is_valid(answer, in_flight):
                self._act_on(answer)
            else:
                self._log.warning("link.stray-answer", verdict=str(answer.verdict), id=answer.id)

    def _is_valid(self, answer: SemReply, in_flight: InFlightAction) -> bool:
        """Return True if an answer with the id of the action in flight is valid.

        An ACK is valid whenever it arrives, even late or on another connection, because an applied action stays
        applied. BUSY and NAK are valid only as the answer to the message that is awaiting one.
        """
        was_sent = in_flight.was_sent or self._last_sent == in_flight.name
        is_awaited = self._awaiting == (in_flight.name, self._link.connection)
        return is_awaited or (was_sent and answer.verdict is Verdict.ACK)

    def _act_on(self, answer: SemReply) -> None:
        reach(Failpoint.ANSWERED)
        self._awaiting = None
        self._pending.note_answer(f"{answer.verdict} {answer.reason}".strip())
        if answer.verdict is Verdict.BUSY:
            pause_s = self._backoff.next_s()
            self._not_before_s = self._clock.monotonic_s() + pause_s
            self._log.info("action.busy", id=answer.id, again_in_s=round(pause_s, 3))
            self._pending.note_not_taken()
            return
        self._backoff.reset()
        self._not_before_s = 0.0
        if answer.verdict is Verdict.ACK:
            self._pending.settle(Outcome.SENT)
        else:
            self._pending.settle(Outcome.REFUSED, answer.reason or "the SEM refused it")
