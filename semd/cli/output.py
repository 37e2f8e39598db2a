"""Output of commands: text for people, and with `--json` one object as the last line of standard output."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path, typer.Option("--config", help="The TOML file; `semd init DIR` writes one.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]


def forgive_consoles() -> None:
    """Print what the console's encoding has no character for (µ in CP949) as an escape, in place of ending there."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_json(values: Mapping[str, object]) -> None:
    """Print one JSON object on one line, at once; in ASCII, since the reader may not know the console's encoding."""
    print(json.dumps(values, default=str), flush=True)


def print_report(text: str, values: Mapping[str, object], *, as_json: bool) -> None:
    """Print a report as a table, or with `--json` as one object."""
    if as_json:
        print_json(values)
    else:
        print(text)
