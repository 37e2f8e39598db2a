"""The desk: which action is next, which one is in flight, and where each goes when it is dealt with.

Both dialects work at it. Whatever fails to be written here is done again at the next call, before anything
else: an action that was answered is never sent again because a folder could not be written.
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
"""A message sent this short before EXPIRES could arrive after it."""

_CLEARED_AT_ONCE = 200
"""Stale files cleared in one call; the rest follows, and the heartbeat comes in between."""


@dataclass(frozen=True, slots=True)
class Flight:
    """The action being dealt with.

    Attributes:
        name: of its file.
        data: the file's bytes.
        action: what they say.
        was_sent: True where any of it may have reached the SEM without an answer.
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


class Desk:
    """Pending files, the journal, the audit trail and the action in flight.

    Args:
        folder: the action directory.
        journal: the memory across restarts.
        clock: for EXPIRES.
        trail: every command goes into it, before it is sent and when it is answered.
        profile: what the instrument's knobs can do; what goes beyond it is refused, whoever wrote it.
        rate: the limit of commands, whose memory is kept in the journal.
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
        self.flight: Flight | None = None
        self.pending_count = 0
        self.turnaround_s = 0.0
        self.outcomes: Counter[str] = Counter()

    @property
    def newest_acknowledged_seq(self) -> int:
        """SEQ of the newest acknowledged action; 0 when there is none."""
        return self._entry.newest_acknowledged_seq if self._entry is not None else 0

    def take(self, *, newest_only: bool = False) -> Flight | None:
        """Return the action in flight, or take the next one that may be sent, clearing those that may not.

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
            self._settle(_Settlement(name, Outcome.REFUSED, "it is no file with the name of an action", False))
        if self.flight is None and newest_only:
            self.flight = self._take_newest(listing.names)
        elif self.flight is None:
            for name in listing.names[:_CLEARED_AT_ONCE]:
                self.flight = self._judge(name)
                if self.flight is not None:
                    break
        return self.flight

    def scan(self) -> Listing:
        """List what is pending.

        Raises:
            StorageError: the directory cannot be read.
        """
        listing = self._folder.scan()
        self.pending_count = len(listing.names)
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
                    continue  # refused when its turn comes
                if read is not None:
                    found.append(read[1])
        return tuple(found)

    def pending_s(self, action: Action) -> float:
        """Seconds since a pending action was first seen; 0 for one that was not."""
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
        """Return True if it is too late to send it.

        EXPIRES is a time on the wall, and that clock may be set back. An action that has lain here for as long as it
        was to live has expired whatever it shows.
        """
        lain_s = self.pending_s(action)
        return (
            self._clock.now() + _SEND_MARGIN >= action.expires
            or timedelta(seconds=lain_s) + _SEND_MARGIN >= action.expires - action.issued
        )

    def note_sending(self, data: bytes, *, command: str = "", baseline_seq: int = 0) -> None:
        """Write down, in journal and trail, that `data` is about to be sent; durable on return.

        Args:
            data: what goes to the socket for the action in flight.
            command: it as text, where an action takes several.
            baseline_seq: see `JournalEntry`.

        Raises:
            StorageError: it cannot be written; it must not be sent.
        """
        if self.flight is None:
            return
        self._before_sending = (self.flight.was_sent, self.flight.baseline_seq)
        self._note(was_sent=True, baseline_seq=baseline_seq, is_command=True)
        try:
            self._trail.sending(self.flight.action, data, command)
        except StorageError:
            self._take_back()
            raise
        reach(Failpoint.TRAIL_WRITTEN)

    def note_unsent(self, reason: str) -> None:
        """Write down that what was announced last has not been sent after all.

        Raises:
            StorageError: it cannot be written; the action counts as sent then.
        """
        self.note_answer(f"not sent: {reason}")
        self._take_back()

    def note_answer(self, answer: str) -> None:
        """Note for the trail how the last command ended. Written before the action is settled or another is sent."""
        self._trail.ended(answer)

    def close(self) -> None:
        """Write what is still due.

        Raises:
            StorageError: it cannot be written.
        """
        self._trail.flush()

    def _take_back(self) -> None:
        was_sent, baseline_seq = self._before_sending
        self._note(was_sent=was_sent, baseline_seq=baseline_seq)

    def note_not_taken(self) -> None:
        """Write down that the SEM has not taken the action in flight (BUSY): it is not in doubt.

        Raises:
            StorageError: it cannot be written.
        """
        self._note(was_sent=False, baseline_seq=0)

    def settle(self, outcome: Outcome, reason: str = "") -> None:
        """End the action in flight.

        Raises:
            StorageError: its file cannot be moved yet; `take` tries again.
        """
        if self.flight is not None:
            self._settle(_Settlement(self.flight.name, outcome, reason, outcome is Outcome.SENT))

    def _note(self, *, was_sent: bool, baseline_seq: int, is_command: bool = False) -> None:
        if self.flight is None or self._entry is None:
            return
        entry = replace(
            self._entry,
            in_flight=self.flight.name,
            was_sent=was_sent,
            baseline_seq=baseline_seq,
            commands=self._rate.memory(with_one_more=is_command),
        )
        self._save(entry)
        self.flight = replace(self.flight, was_sent=was_sent, baseline_seq=baseline_seq)

    def _settle(self, settlement: _Settlement) -> None:
        self._unsettled = settlement
        self._finish_settlement()

    def _finish_settlement(self) -> None:
        """Move the file, then forget the flight: after a crash in between the file's place tells the rest."""
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
        if self.flight is not None and self.flight.name == settlement.name:
            self.flight = None

    def _report(self, settlement: _Settlement) -> None:
        self.outcomes[settlement.outcome] += 1
        named = parse_file_name(settlement.name)
        event = {"file": settlement.name, "seq": named[0] if named else None}
        if self.flight is not None and self.flight.name == settlement.name:
            action = self.flight.action
            event |= {"id": action.id, "frame": action.frame, "status": str(action.status)}
        if settlement.reason:
            event["reason"] = settlement.reason
        is_usual = settlement.outcome in (Outcome.SENT, Outcome.DRY_RUN)
        log = self._log.info if is_usual else self._log.warning
        log(f"action.{settlement.outcome}", **event)

    def _take_newest(self, names: tuple[str, ...]) -> Flight | None:
        """Take the newest action if it may be sent; every older one answers an older frame, and is superseded."""
        for place, name in reversed(list(enumerate(names))):
            if not self._is_readable(name):
                self._judge(name)
                continue
            # From the oldest on: what is left after a fault is still older than the newest.
            for older in names[:place][:_CLEARED_AT_ONCE]:
                self._settle(_Settlement(older, Outcome.EXPIRED, "superseded: a newer frame was answered", False))
            return self._judge(name) if place <= _CLEARED_AT_ONCE else None
        return None

    def _is_readable(self, name: str) -> bool:
        """Return False for a malformed file, which `_judge` refuses."""
        try:
            self._folder.read(name)
        except ActionTextError:
            return False
        return True

    def _judge(self, name: str) -> Flight | None:
        """Read a pending file; None when it is not to be sent, and then it is moved away."""
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
        flight = Flight(name, *read)
        faults = self._profile.faults(flight.action.targets)
        if faults or self.is_expired(flight.action):
            self.flight = flight  # for the log line
            if faults:
                self.settle(Outcome.REFUSED, "; ".join(faults))
            else:
                self.settle(Outcome.EXPIRED, f"not sent before {flight.action.expires.isoformat()}")
            return None
        reach(Failpoint.ACTION_SEEN)
        return flight

    def _restore(self) -> None:
        """Take up what the last process left."""
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
        flight = None
        if entry.in_flight is not None and entry.was_sent:
            flight = self._resume(entry.in_flight, entry)
        self._save(entry)
        self.flight = flight
        if self._is_damaged:
            self._log.error("journal.damaged", consequence="the oldest pending action counts as sent")
        if flight is not None:
            self._log.warning("action.in-doubt", file=flight.name, frame=flight.action.frame)
            faults = self._profile.faults(flight.action.targets)
            if faults:  # the profile was narrowed meanwhile
                self.settle(Outcome.UNCERTAIN, "; ".join([*faults, "sent before, and not answered"]))

    def _resume(self, name: str, entry: JournalEntry) -> Flight | None:
        try:
            read = self._folder.read(name)
        except ActionTextError:
            return None  # `_judge` refuses it with its reason
        if read is None:
            return None
        return Flight(name, *read, was_sent=True, baseline_seq=entry.baseline_seq)

    def _save(self, entry: JournalEntry) -> None:
        if entry != self._entry:
            self._journal.save(entry)
            self._entry = entry


def _seq_of(name: str) -> int:
    return (parse_file_name(name) or (0, ""))[0]


def _acknowledge(entry: JournalEntry, name: str) -> JournalEntry:
    newer = replace(entry, newest_acknowledged=name)
    return newer if newer.newest_acknowledged_seq > entry.newest_acknowledged_seq else entry
