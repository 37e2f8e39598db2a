"""Dry run: actions are processed as usual and filed in `dry-run`; no connection is opened."""

from __future__ import annotations

from collections.abc import Callable

from semd.errors import LinkError
from semd.middle_client.action_folder import Outcome
from semd.middle_client.framing import Templates, aisem_commands, text_message
from semd.middle_client.gate import Gate
from semd.middle_client.pending import InFlightAction, PendingActions


class NoLink:
    """Replacement for the link that has no socket.

    Args:
        pause: function that sleeps for the given number of seconds.
    """

    is_up = False
    connection = 0

    def __init__(self, pause: Callable[[float], object]) -> None:
        self._pause = pause

    def poll(self) -> None:
        """Do nothing; there is no connection."""

    def wait(self, timeout_s: float) -> None:
        """Sleep for `timeout_s` seconds."""
        self._pause(timeout_s)

    def close(self, goodbye: bytes) -> None:
        """Do nothing; there is no connection."""


class DryRunForwarder:
    """Forwarder that files each action and logs the commands it would have sent.

    Args:
        pending: the pending actions.
        gate: abort and rate limit, which apply to the dry run as well.
        templates: commands of the `aisem` dialect; None in the `text` dialect.
    """

    def __init__(self, pending: PendingActions, gate: Gate, templates: Templates | None) -> None:
        self._pending = pending
        self._gate = gate
        self._templates = templates

    def step(self) -> None:
        """Process the next action, if there is one.

        Raises:
            StorageError: a file cannot be read, written or moved; call again.
        """
        in_flight = self._pending.take()
        if in_flight is None:
            return
        if in_flight.was_sent:
            self._pending.settle(Outcome.UNCERTAIN, "sent before the dry run began, and not answered")
        elif self._pending.is_expired(in_flight.action):
            self._pending.settle(Outcome.EXPIRED, f"not taken before {in_flight.action.expires.isoformat()}")
        elif self._gate.is_open() and self._gate.passes():
            self._file_away(in_flight)

    def _file_away(self, in_flight: InFlightAction) -> None:
        if self._templates is None:
            self._pending.settle(Outcome.DRY_RUN, f"would send {len(text_message(in_flight.data))} bytes")
            return
        try:
            commands = aisem_commands(in_flight.action, self._templates)
        except LinkError as error:
            self._pending.settle(Outcome.REFUSED, error.message)
            return
        said = ", then ".join(command.decode("euc-kr", "replace") for command in commands)
        self._pending.settle(Outcome.DRY_RUN, f"would send {said or 'nothing: no scan is asked for'}")
