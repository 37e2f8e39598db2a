"""How commands report: text for people, and with `--json` one object as the last line of standard output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path, typer.Option("--config", help="The TOML file; `semd init DIR` writes one.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]


def print_json(values: Mapping[str, object]) -> None:
    """Print one JSON object on one line, at once."""
    print(json.dumps(values, ensure_ascii=False, default=str), flush=True)
