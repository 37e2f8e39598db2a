"""`semd evaluate loop` and `latency`: times of the daemon and of the scoring machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from semd.cli.evaluation_options import ModelsOption, evaluate_app
from semd.cli.output import JsonOption, print_report
from semd.errors import ConfigError


def register(_: typer.Typer) -> None:
    """Add these commands."""
    evaluate_app.command("loop")(loop)
    evaluate_app.command("latency")(latency)


def loop(
    frames: Annotated[int, typer.Option(min=10, help="Pairs to time.")] = 300,
    replayed: Annotated[int, typer.Option(min=1, help="Recorded pairs to replay.")] = 2000,
    models: ModelsOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Time a real daemon: from the second file's close to the action's rename, beside the bare network."""
    from semd.evaluation.speed.loop_benchmark import measure_loop

    figures = measure_loop(frames, models, replayed)
    lines = (f"{key:28} {value}" for key, value in figures.items())
    print_report("\n".join(lines), figures, as_json=as_json)


def latency(
    frames: Annotated[int, typer.Option(min=5, help="Frames for each row.")] = 200,
    threads: Annotated[str, typer.Option(help="Comma separated.")] = "1,2",
    models: ModelsOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder for latency.json and latency.txt.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Time a frame in torch and in the exported models side by side, idle and beside a busy core; and their memory."""
    from rich.console import Console
    from rich.progress import track

    from semd.evaluation.speed.latency import measure_latency, save_latency

    try:
        counts = tuple(int(count) for count in threads.split(","))
    except ValueError as error:
        raise ConfigError(f"--threads {threads!r}: whole numbers, comma separated") from error
    console = Console(stderr=True)
    report = measure_latency(models, frames, counts, lambda steps, doing: track(steps, doing, console=console))
    if out is not None:
        save_latency(report, out)
    print_report(report.as_text(), report.as_json(), as_json=as_json)
