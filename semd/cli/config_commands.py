"""`semd init` and `semd config`: the configuration file, its reference and its schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from semd.errors import ConfigError

config_app = typer.Typer(help="Reference and JSON Schema of the configuration.", no_args_is_help=True)

OutOption = Annotated[
    Path | None, typer.Option(help="File to write; default: standard output.", show_default=False, dir_okay=False)
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(init)
    config_app.command("docs")(docs)
    config_app.command("schema")(schema)
    app.add_typer(config_app, name="config")


def init(directory: Annotated[Path, typer.Argument(help="Directory; created if missing.")]) -> None:
    """Write an annotated semd.toml, its JSON Schema and the folders it names."""
    from semd.config.documents import write_starter

    path = write_starter(directory)
    print(f"{path} and its folders are written. Next: look through it, then `semd run --config {path}`")


def docs(out: OutOption = None) -> None:
    """Write the reference of all settings in Markdown."""
    from semd.config.documents import reference_markdown

    _write(reference_markdown(), out)


def schema(out: OutOption = None) -> None:
    """Write the JSON Schema of the configuration, for editors that check and complete TOML."""
    from semd.config.documents import json_schema

    _write(json_schema(), out)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        print(text, end="")
        return
    try:
        out.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written: {error.strerror}") from error
