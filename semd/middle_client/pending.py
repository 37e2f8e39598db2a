"""Pending actions: selection of the next one, the action in flight, and the filing of completed ones.

Both dialects use it. A write that fails is repeated at the next call before anything else. An acknowledged action is
therefore never sent again because a folder could not be written.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from semd.errors import ActionTextError, StorageError
from semd.middle_client.action_folder import ActionFolder, Listing, Outcome
from semd.middle_client.audit import AuditTrail
from semd.middle_client.clock import Clock
from semd.middle_client.gate import RateLimit
from semd.middle_client.journal import Journal, JournalEntry
from semd.protocol.action import Action, parse_file_name
from semd.protocol.instrument_profile import InstrumentProfile
from semd.service.failpoints import Failpoint, reach

_SEND_MARGIN = timedelta(milliseconds=50)
"""Safety margin before EXPIRES. A message sent later than this could arrive after its action has expired."""

_MAX_FILED_PER_CALL = 200
"""Maximum number of stale files filed in one call, so that a long backlog does not delay the heartbeat."""


@dataclass(frozen=True, slots=True)
class InFlightAction:
    """The action that is being sent or awaits its answer.

    Attributes:
        name: name of its file.
        data: the file's bytes.
        action: the decoded action.
        was_sent: True where part of it may have reached the SEM and no answer was received.
        baseline_seq: see `JournalEntry`.
    """

    name: str
    data: bytes
    action: Action
    was_sent: bool = False
    baseline_seq: int = 0


@dataclass(frozen=True, slots=True)
class _Settlement:
    name: str
    outcome: Outcome
    reason: str
    acknowledged: bool


class PendingActions:
    """The pending action files and the action in flight, with the journal and the audit trail that record it.

    Args:
        folder: the action directory.
        journal: the memory across restarts.
        clock: compared with EXPIRES.
        trail: records each command before it is sent and when it is answered.
        profile: range of each setting of the instrument; an action outside it is refused.
        rate: the rate limit; its recent commands are kept in the journal.
    """

    def __init__(
        self,
        folder: ActionFolder,
        journal: Journal,
        clock: Clock,
        *,
        trail: AuditTrail,
        profile: InstrumentProfile,
        rate: RateLimit,
    ) -> None:
        self._folder = folder
        self._journal = journal
        self._clock = clock
        self._trail = trail
        self._profile = profile
        self._rate = rate
        self._first_seen_s: dict[str, float] = {}
        self._before_sending = (False, 0)
        self._entry: JournalEntry | None = None
        self._unsettled: _Settlement | None = None
        self._is_damaged = False
        self._has_remembered = False
        self._log = structlog.get_logger()
        self.in_flight: InFlightAction | None = None
        self.count = 0
        self.turnaround_s = 0.0
        self.outcomes: Counter[str] = Counter()

    @property
    def newest_acknowledged_seq(self) -> int:
        """SEQ of the newest acknowledged action; 0 when there is none."""
        return self._entry.newest_acknowledged_seq if self._entry is not None else 0

    def take(self, *, newest_only: bool = False) -> InFlightAction | None:
        """Return the action in flight, or select the next one that may be sent; actions that may not be sent are filed.

        Args:
            newest_only: take the newest pending action and file the older ones as superseded, instead of taking one
                after the other.

        Raises:
            StorageError: a file cannot be read or moved; call again.
        """
        if self._entry is None:
            self._restore()
        self._finish_settlement()
        self._trail.flush()
        listing = self.scan()
        for name in listing.misnamed:
            self._settle(
                _Settlement(name, Outcome.REFUSED, "not a regular file, or its name is not that of an action", False)
            )
        if self.in_flight is None and newest_only:
            self.in_flight = self._take_newest(listing.names)
        elif self.in_flight is None:
            for name in listing.names[:_MAX_FILED_PER_CALL]:
                self.in_flight = self._check(name)
                if self.in_flight is not None:
                    break
        return self.in_flight

    def scan(self) -> Listing:
        """List what is pending.

        Raises:
            StorageError: the directory cannot be read.
        """
        listing = self._folder.scan()
        self.count = len(listing.names)
        now_s = self._clock.monotonic_s()
        self._first_seen_s = {name: self._first_seen_s.get(name, now_s) for name in listing.names}
        return listing

    def read_later_than(self, seq: int) -> tuple[Action, ...]:
        """Read the pending actions with a higher SEQ, in its order.

        Raises:
            StorageError: one of them cannot be read.
        """
        found = []
        for name in self.scan().names:
            if _seq_of(name) > seq:
                try:
                    read = self._folder.read(name)
                except ActionTextError:
                    continue  # malformed; refused when it is selected
                if read is not None:
                    found.append(read[1])
        return tuple(found)

    def age_s(self, action: Action) -> float:
        """Return the seconds since a pending action was first seen; 0 for an unknown action."""
        now_s = self._clock.monotonic_s()
        return now_s - self._first_seen_s.get(action.file_name, now_s)

    def supersede_between(self, after_seq: int, before_seq: int, reason: str) -> None:
        """File the pending actions whose SEQ lies between two others as superseded.

        Raises:
            StorageError: a file cannot be moved; call again.
        """
        for name in self.scan().names:
            if after_seq < _seq_of(name) < before_seq:
                self._settle(_Settlement(name, Outcome.EXPIRED, f"superseded: {reason}", False))

    def is_expired(self, action: Action) -> bool:
        """Return True if an action is too old to be sent.

        EXPIRES is wall-clock time, and that clock may be set back. An action that has been pending for its whole
        lifetime (EXPIRES - ISSUED) has therefore expired whatever the wall clock shows.
        """
        pending_for_s = self.age_s(action)
        return (
            self._clock.now() + _SEND_MARGIN >= action.expires
            or timedelta(seconds=pending_for_s) + _SEND_MARGIN >= action.expires - action.issued
        )

    def note_sending(self, data: bytes, *, command: str = "", baseline_seq: int = 0) -> None:
        """Record in journal and audit trail that `data` is about to be sent; durable on return.

        Args:
            data: the bytes to be written to the socket for the action in flight.
            command: the command as text, where an action takes several.
            baseline_seq: see `JournalEntry`.

        Raises:
            StorageError: the record cannot be written; nothing may be sent.
        """
        if self.in_flight is None:
            return
        self._before_sending = (self.in_flight.was_sent, self.in_flight.baseline_seq)
        self._note(was_sent=True, baseline_seq=baseline_seq, is_command=True)
        try:
            self._trail.sending(self.in_flight.action, data, command)
        except StorageError:
            self._take_back()
            raise
        reach(Failpoint.TRAIL_WRITTEN)

    def note_unsent(self, reason: str) -> None:
        """Record that the command announced last was not sent.

        Raises:
            StorageError: the record cannot be written; the action counts as sent.
        """
        self.note_answer(f"not sent: {reason}")
        self._take_back()

    def note_answer(self, answer: str) -> None:
        """Keep the result of the last command for the audit trail, to be written before the next step."""
        self._trail.ended(answer)

    def close(self) -> None:
        """Write the answer that is not yet in the audit trail.

        Raises:
            StorageError: it cannot be written.
        """
        self._trail.flush()

    def _take_back(self) -> None:
        was_sent, baseline_seq = self._before_sending
        self._note(was_sent=was_sent, baseline_seq=baseline_seq)

    def note_not_taken(self) -> None:
        """Record that the SEM did not accept the action in flight (BUSY), so that it counts as not sent.

        Raises:
            StorageError: it cannot be written.
        """
        self._note(was_sent=False, baseline_seq=0)

    def settle(self, outcome: Outcome, reason: str = "") -> None:
        """File the action in flight under its outcome.

        Raises:
            StorageError: its file cannot be moved; the next `take` tries again.
        """
        if self.in_flight is not None:
            self._settle(_Settlement(self.in_flight.name, outcome, reason, outcome is Outcome.SENT))

    def _note(self, *, was_sent: bool, baseline_seq: int, is_command: bool = False) -> None:
        if self.in_flight is None or self._entry is None:
            return
        entry = replace(
            self._entry,
            in_flight=self.in_flight.name,
            was_sent=was_sent,
            baseline_seq=baseline_seq,
            commands=self._rate.memory(with_one_more=is_command),
        )
        self._save(entry)
        self.in_flight = replace(self.in_flight, was_sent=was_sent, baseline_seq=baseline_seq)

    def _settle(self, settlement: _Settlement) -> None:
        self._unsettled = settlement
        self._finish_settlement()

    def _finish_settlement(self) -> None:
        """Move the file, then clear the journal; after a crash in between, the file's folder shows the outcome."""
        settlement = self._unsettled
        if settlement is None or self._entry is None:
            return
        self._trail.flush()
        self._folder.move(settlement.name, settlement.outcome)
        reach(Failpoint.ACTION_FILED)
        entry = self._entry
        if settlement.name == entry.in_flight:
            entry = replace(entry, in_flight=None, was_sent=False, baseline_seq=0)
        if settlement.acknowledged:
            entry = _acknowledge(entry, settlement.name)
        self._save(replace(entry, turnaround_s=self.turnaround_s))
        reach(Failpoint.FLIGHT_CLOSED)
        self._unsettled = None
        self._report(settlement)
        if self.in_flight is not None and self.in_flight.name == settlement.name:
            self.in_flight = None

    def _report(self, settlement: _Settlement) -> None:
        self.outcomes[settlement.outcome] += 1
        named = parse_file_name(settlement.name)
        event = {"file": settlement.name, "seq": named[0] if named else None}
        if self.in_flight is not None and self.in_flight.name == settlement.name:
            action = self.in_flight.action
            event |= {"id": action.id, "frame": action.frame, "status": str(action.status)}
        if settlement.reason:
            event["reason"] = settlement.reason
        is_usual = settlement.outcome in (Outcome.SENT, Outcome.DRY_RUN)
        log = self._log.info if is_usual else self._log.warning
        log(f"action.{settlement.outcome}", **event)

    def _take_newest(self, names: tuple[str, ...]) -> InFlightAction | None:
        """Take the newest action if it may be sent. Older ones answer older frames and are filed as superseded."""
        for place, name in reversed(list(enumerate(names))):
            if not self._is_readable(name):
                self._check(name)
                continue
            # Oldest first, so that files left over after an error are still older than the newest.
            for older in names[:place][:_MAX_FILED_PER_CALL]:
                self._settle(_Settlement(older, Outcome.EXPIRED, "superseded: a newer frame was answered", False))
            return self._check(name) if place <= _MAX_FILED_PER_CALL else None
        return None

    def _is_readable(self, name: str) -> bool:
        """Return False for a malformed file, which `_check` refuses."""
        try:
            self._folder.read(name)
        except ActionTextError:
            return False
        return True

    def _check(self, name: str) -> InFlightAction | None:
        """Read a pending file and file it if it may not be sent; None in that case."""
        seq = _seq_of(name)
        try:
            read = self._folder.read(name)
        except ActionTextError as error:
            self._settle(_Settlement(name, Outcome.REFUSED, str(error), False))
            return None
        if read is None:
            return None
        if self._entry is not None and name == self._entry.newest_acknowledged:
            self._settle(_Settlement(name, Outcome.SENT, "acknowledged before", True))
            return None
        if seq <= self.newest_acknowledged_seq:
            reason = f"superseded: SEQ {self.newest_acknowledged_seq} is acknowledged"
            self._settle(_Settlement(name, Outcome.EXPIRED, reason, False))
            return None
        in_flight = InFlightAction(name, *read)
        faults = self._profile.faults(in_flight.action.targets)
        if faults or self.is_expired(in_flight.action):
            self.in_flight = in_flight  # for the log event
            if faults:
                self.settle(Outcome.REFUSED, "; ".join(faults))
            else:
                self.settle(Outcome.EXPIRED, f"not sent before {in_flight.action.expires.isoformat()}")
            return None
        reach(Failpoint.ACTION_SEEN)
        return in_flight

    def _restore(self) -> None:
        """Restore the state that the previous process left in the journal."""
        entry, damaged = self._journal.load()
        self._is_damaged = self._is_damaged or damaged
        if entry is not None and not self._has_remembered:
            self._rate.remember(entry.commands)
            self._has_remembered = True
        if entry is None:
            entry = JournalEntry(newest_acknowledged=self._folder.newest(Outcome.SENT))
        self.turnaround_s = entry.turnaround_s
        names = self._folder.scan().names
        if self._is_damaged and names:
            entry = replace(entry, in_flight=names[0], was_sent=True, baseline_seq=_seq_of(names[-1]))
        if entry.in_flight is not None and entry.in_flight not in names:
            if self._folder.holds(entry.in_flight, Outcome.SENT):
                entry = _acknowledge(entry, entry.in_flight)
            entry = replace(entry, in_flight=None, was_sent=False, baseline_seq=0)
        in_flight = None
        if entry.in_flight is not None and entry.was_sent:
            in_flight = self._resume(entry.in_flight, entry)
        self._save(entry)
        self.in_flight = in_flight
        if self._is_damaged:
            self._log.error("journal.damaged", consequence="the oldest pending action counts as sent")
        if in_flight is not None:
            self._log.warning("action.in-doubt", file=in_flight.name, frame=in_flight.action.frame)
            faults = self._profile.faults(in_flight.action.targets)
            if faults:  # the profile was narrowed since
                self.settle(Outcome.UNCERTAIN, "; ".join([*faults, "sent before, and not answered"]))

    def _resume(self, name: str, entry: JournalEntry) -> InFlightAction | None:
        try:
            read = self._folder.read(name)
        except ActionTextError:
            return None  # `_check` refuses it with its reason
        if read is None:
            return None
        return InFlightAction(name, *read, was_sent=True, baseline_seq=entry.baseline_seq)

    def _save(self, entry: JournalEntry) -> None:
        if entry != self._entry:
            self._journal.save(entry)
            self._entry = entry


def _seq_of(name: str) -> int:
    return (parse_file_name(name) or (0, ""))[0]


def _acknowledge(entry: JournalEntry, name: str) -> JournalEntry:
    newer = replace(entry, newest_acknowledged=name)
    return newer if newer.newest_acknowledged_seq > entry.newest_acknowledged_seq else entry
