"""The `text` dialect: one action at a time, in the order of SEQ, each until it is answered (protocol, section 3)."""

from __future__ import annotations

import structlog

from semd.errors import LinkError
from semd.middle_client.action_folder import Outcome
from semd.middle_client.backoff import Backoff
from semd.middle_client.clock import Clock
from semd.middle_client.desk import Desk, Flight
from semd.middle_client.framing import Answer, AnswerReader, Verdict, text_message
from semd.middle_client.gate import Gate
from semd.middle_client.link import Link
from semd.service.failpoints import Failpoint, reach


class TextForwarder:
    """Sends what is on the desk and acts on the answers.

    Sending again is safe in this dialect: the SEM acknowledges an id that it has applied without applying it
    again. So an unanswered action is sent again after reconnecting, unchanged, as long as it has not expired.

    Args:
        desk: where actions come from and go.
        link: to the SEM.
        clock: for waiting.
        gate: asked before each send.
        answer_timeout_s: silence after a send that counts as a broken link.
        backoff: pauses after BUSY.
    """

    def __init__(
        self, desk: Desk, link: Link, clock: Clock, *, gate: Gate, answer_timeout_s: float, backoff: Backoff
    ) -> None:
        self._desk = desk
        self._link = link
        self._clock = clock
        self._gate = gate
        self._answer_timeout_s = answer_timeout_s
        self._backoff = backoff
        self._reader = AnswerReader()
        self._reading = 0
        self._awaiting: tuple[str, int] | None = None
        self._last_sent = ""
        self._sent_at_s = 0.0
        self._not_before_s = 0.0
        self._log = structlog.get_logger()

    def step(self) -> None:
        """Do what can be done without waiting.

        Raises:
            StorageError: a file cannot be read, written or moved; call again.
        """
        try:
            self._take_answers()
            flight = self._desk.take()
            if flight is not None:
                self._forward(flight)
        except LinkError as error:
            self._desk.note_answer(f"none: {error.message}")
            self._link.drop(error.message)
            self._reader = AnswerReader()  # what it holds would break the next connection before there is one

    def _forward(self, flight: Flight) -> None:
        now_s = self._clock.monotonic_s()
        if self._link.is_up and self._awaiting == (flight.name, self._link.connection):
            if now_s - self._sent_at_s > self._answer_timeout_s:
                raise LinkError(f"no answer within {self._answer_timeout_s:g} s")
            return
        if self._desk.is_expired(flight.action):
            self._end_expired(flight)
        elif self._link.is_up and now_s >= self._not_before_s and self._gate.is_open():
            self._send(flight)

    def _send(self, flight: Flight) -> None:
        message = text_message(flight.data)
        self._desk.note_sending(message)
        if not self._gate.passes():
            self._desk.note_unsent("aborted")
            return
        self._awaiting = (flight.name, self._link.connection)
        self._last_sent = flight.name
        self._sent_at_s = self._clock.monotonic_s()
        self._link.send(message)
        reach(Failpoint.SENT)

    def _end_expired(self, flight: Flight) -> None:
        until = flight.action.expires.isoformat()
        if flight.was_sent:
            self._desk.settle(Outcome.UNCERTAIN, f"sent, and not answered before {until}")
        else:
            self._desk.settle(Outcome.EXPIRED, f"the SEM did not take it before {until}")

    def _take_answers(self) -> None:
        if self._reading != self._link.connection:
            self._reader, self._reading = AnswerReader(), self._link.connection
        for answer in self._reader.feed(self._link.receive()):
            flight = self._desk.flight
            if flight is not None and answer.id == flight.action.id and self._is_due(answer, flight):
                self._act_on(answer)
            else:
                self._log.warning("link.stray-answer", verdict=str(answer.verdict), id=answer.id)

    def _is_due(self, answer: Answer, flight: Flight) -> bool:
        """Return True if an answer of the right id counts.

        That it was applied is true whenever it comes, late on another connection or after a BUSY; that it was not is
        only to be believed of the message that waits for its answer.
        """
        was_sent = flight.was_sent or self._last_sent == flight.name
        is_awaited = self._awaiting == (flight.name, self._link.connection)
        return is_awaited or (was_sent and answer.verdict is Verdict.ACK)

    def _act_on(self, answer: Answer) -> None:
        reach(Failpoint.ANSWERED)
        self._awaiting = None
        self._desk.note_answer(f"{answer.verdict} {answer.reason}".strip())
        if answer.verdict is Verdict.BUSY:
            pause_s = self._backoff.next_s()
            self._not_before_s = self._clock.monotonic_s() + pause_s
            self._log.info("action.busy", id=answer.id, again_in_s=round(pause_s, 3))
            self._desk.note_not_taken()
            return
        self._backoff.reset()
        self._not_before_s = 0.0
        if answer.verdict is Verdict.ACK:
            self._desk.settle(Outcome.SENT)
        else:
            self._desk.settle(Outcome.REFUSED, answer.reason or "the SEM refused it")
