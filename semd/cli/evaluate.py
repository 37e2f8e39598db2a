"""Commands that measure: evaluate score, control, loop, replay."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from semd.cli.output import JsonOption, print_json
from semd.errors import ConfigError

evaluate_app = typer.Typer(help="Measure against ground truth, with the papers' figures beside.", no_args_is_help=True)

ModelsOption = Annotated[Path | None, typer.Option("--models", help="Default: the weights that came with semd.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    evaluate_app.command("score")(score)
    evaluate_app.command("control")(control)
    evaluate_app.command("loop")(loop)
    app.add_typer(evaluate_app, name="evaluate")


def score(
    data: Annotated[Path, typer.Option(help="A dataset; `semd dataset build` makes one.")],
    models: ModelsOption = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    *,
    as_json: JsonOption = False,
) -> None:
    """RMSE on the field-grouped test split, per magnification and per label."""
    from semd.model_store import default_directory, load_model
    from semd.scoring.training import evaluate_scorer

    stored = load_model(models or default_directory(), "scorer")
    report = asdict(evaluate_scorer(stored.data, data, threads=threads))
    if as_json:
        print_json(report)
    else:
        print(json.dumps(report, indent=2))


def control(
    samples: Annotated[str, typer.Option(help="Comma separated.")] = "tinball,grid",
    magnifications: Annotated[str, typer.Option(help="Comma separated.")] = "500,1000,2000,5000",
    episodes: Annotated[int, typer.Option(min=1, help="Seeds 0.. of every cell.")] = 20,
    models: ModelsOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Table I: whole runs on the image simulator, judged by its ground truth."""
    from rich.progress import track

    from semd.evaluation.control import run_table, simulator_rules
    from semd.pipeline import load_pipeline
    from semd.simulator.serve import checked_sample

    try:
        cells = [
            (checked_sample(sample), int(magnification))
            for sample in samples.split(",")
            for magnification in magnifications.split(",")
        ]
    except ValueError as error:
        raise ConfigError(f"--magnifications {magnifications!r}: whole numbers, comma separated") from error
    table = run_table(load_pipeline(models, 1, simulator_rules), cells, episodes, track)
    if as_json:
        print_json(table.as_json())
    else:
        print(table.as_text())


def loop(
    frames: Annotated[int, typer.Option(min=10, help="Pairs to time.")] = 300,
    replayed: Annotated[int, typer.Option(min=1, help="Recorded pairs to replay.")] = 2000,
    models: ModelsOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Time a real daemon: from the second file's close to the action's rename, beside the bare network."""
    from semd.evaluation.loop_benchmark import measure_loop

    figures = measure_loop(frames, models, replayed)
    if as_json:
        print_json(figures)
    else:
        for key, value in figures.items():
            print(f"{key:28} {value}")
