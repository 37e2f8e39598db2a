"""The dry run: everything as always, but no link is ever opened and every action is filed in `dry-run`."""

from __future__ import annotations

from collections.abc import Callable

from semd.errors import LinkError
from semd.middle_client.action_folder import Outcome
from semd.middle_client.desk import Desk, Flight
from semd.middle_client.framing import Templates, aisem_commands, text_message
from semd.middle_client.gate import Gate


class NoLink:
    """Stands where the link would: there is no socket in it to be opened.

    Args:
        pause: waits so many seconds.
    """

    is_up = False
    connection = 0

    def __init__(self, pause: Callable[[float], object]) -> None:
        self._pause = pause

    def poll(self) -> None:
        """Connect to nothing."""

    def wait(self, timeout_s: float) -> None:
        """Wait until the time is up."""
        self._pause(timeout_s)

    def close(self, goodbye: bytes) -> None:
        """Leave nothing."""


class DryRunForwarder:
    """Takes actions as the real forwarders do, and files them with what would have been sent.

    Args:
        desk: where actions come from and go.
        gate: the abort file and the rate limit hold here too.
        templates: `aisem`: its commands; None in the `text` dialect.
    """

    def __init__(self, desk: Desk, gate: Gate, templates: Templates | None) -> None:
        self._desk = desk
        self._gate = gate
        self._templates = templates

    def step(self) -> None:
        """Deal with the next action, if there is one.

        Raises:
            StorageError: a file cannot be read, written or moved; call again.
        """
        flight = self._desk.take()
        if flight is None:
            return
        if flight.was_sent:
            self._desk.settle(Outcome.UNCERTAIN, "sent before the dry run began, and not answered")
        elif self._desk.is_expired(flight.action):
            self._desk.settle(Outcome.EXPIRED, f"not taken before {flight.action.expires.isoformat()}")
        elif self._gate.is_open() and self._gate.passes():
            self._file_away(flight)

    def _file_away(self, flight: Flight) -> None:
        if self._templates is None:
            self._desk.settle(Outcome.DRY_RUN, f"would send {len(text_message(flight.data))} bytes")
            return
        try:
            commands = aisem_commands(flight.action, self._templates)
        except LinkError as error:
            self._desk.settle(Outcome.REFUSED, error.message)
            return
        said = ", then ".join(command.decode("euc-kr", "replace") for command in commands)
        self._desk.settle(Outcome.DRY_RUN, f"would send {said or 'nothing: no scan is asked for'}")
