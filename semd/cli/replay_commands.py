"""`semd inspect`, `semd record` and `semd replay`: recorded frames, one or many."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from semd.cli.output import ConfigOption, JsonOption, print_json
from semd.errors import FrameError


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(inspect)
    app.command()(record)
    app.command()(replay)


def inspect(
    image: Annotated[Path, typer.Argument(help="A frame's image.")],
    params: Annotated[Path | None, typer.Argument(help="Its parameter text.")] = None,
    dialect: Annotated[str, typer.Option(help="Whose parameters: coxem, hitachi, jeol, ...")] = "coxem",
    magnification: Annotated[
        float | None, typer.Option(help="Magnification, where there is no parameter text.")
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show parameters, features, exposure and score of one frame."""
    from semd.replay.inspection import inspect_frame

    try:
        report = inspect_frame(image, params, dialect, magnification)
    except FrameError as error:
        if as_json:
            print_json({"error": error.code, "message": error.message})
        else:
            print(error)
        raise typer.Exit(1) from None
    if as_json:
        print_json(report)
        return
    for key, value in report.items():
        print(f"{key:22} {value:.4f}" if isinstance(value, float) else f"{key:22} {value}")


def record(
    config: ConfigOption,
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Copy the frames the daemon has answered, in their order, so that `semd replay` can play them."""
    from semd.config import load_config
    from semd.replay.record import record_frames

    counts = record_frames(load_config(config), out)
    if as_json:
        print_json(counts)
    else:
        print(f"{counts['frames']} frames copied to {out}, {counts['missing']} no longer there")


def replay(
    directory: Annotated[Path, typer.Argument(help="A folder of recorded pairs.")],
    config: ConfigOption,
    out: Annotated[
        Path | None, typer.Option(help="Directory of the actions; default: <DIR>-actions beside it.")
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Play recorded pairs through the same pipeline; the same models give the same actions."""
    from semd.config import load_config
    from semd.replay.player import replay_frames

    settings = load_config(config)
    target = out or directory.resolve().with_name(directory.resolve().name + "-actions")
    summary = replay_frames(directory, settings, target, progress=sys.stderr.isatty())
    if as_json:
        print_json(summary)
    else:
        print(", ".join(f"{key} {value}" for key, value in summary.items()))
