"""`semd abort` and `semd audit`: safety on the instrument."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from semd.cli.output import ConfigOption, JsonOption, print_json

if TYPE_CHECKING:
    from semd.middle_client.audit_reading import SentCommand


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(abort)
    app.command()(audit)


def abort(
    config: ConfigOption,
    *,
    clear: Annotated[bool, typer.Option("--clear", help="End the abort.")] = False,
) -> None:
    """Stop the instrument: no command is sent any more, until --clear; restarts change nothing."""
    from semd.config import load_config
    from semd.middle_client.abort import AbortFile
    from semd.middle_client.action_folder import ActionFolder

    actions = load_config(config).actions
    file = AbortFile(actions.directory, actions.abort_file)
    if not clear:
        path = file.raise_it(datetime.now(UTC))
        print(f"aborted: {path} is there; no command is sent until `semd abort --config {config} --clear`")
        return
    pending = len(ActionFolder(actions.directory).scan().names)
    if not file.clear():
        print("there was no abort")
        return
    waiting = f"; {pending} actions that wait are sent now unless they expire" if pending else ""
    print(f"the abort has ended{waiting}")


def audit(
    config: ConfigOption,
    last: Annotated[int, typer.Option(min=1, max=100_000, help="Number of commands, newest first.")] = 20,
    *,
    as_json: JsonOption = False,
) -> None:
    """Print the last commands that were sent to the microscope, with their answers."""
    from semd.config import load_config
    from semd.middle_client.audit import TRAIL_FOLDER
    from semd.middle_client.audit_reading import read_trail

    report = read_trail(load_config(config).state.directory / TRAIL_FOLDER, last)
    if as_json:
        print_json(dataclasses.asdict(report))
        return
    for command in report.commands:
        print(_in_a_line(command))
    if report.damaged_lines:
        print(f"{report.damaged_lines} lines are damaged")
    if not report.commands:
        print("no command has been sent")


def _in_a_line(command: SentCommand) -> str:
    what = command.command or f"{command.status} {json.dumps(command.targets)}"
    took = "" if command.latency_ms is None else f" after {command.latency_ms:.0f} ms"
    line = f"{command.at}  {command.seq:08d}  {what}  {command.answer or 'no answer was written down'}{took}"
    # What the other side said must not steer a terminal.
    return "".join(letter if letter.isprintable() else "?" for letter in line)
