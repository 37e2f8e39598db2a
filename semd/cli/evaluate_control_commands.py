"""`semd evaluate control`, `peers`, `reward` and `twin`: whole runs on the simulator and its twin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semd.cli.evaluation_options import ModelsOption, WeightsOption, evaluate_app, grid_cells, scorer_bytes
from semd.cli.output import JsonOption, print_report

if TYPE_CHECKING:
    from semd.simulator.field import Sample


def register(_: typer.Typer) -> None:
    """Add these commands."""
    evaluate_app.command("control")(control)
    evaluate_app.command("peers")(peers)
    evaluate_app.command("reward")(reward)
    evaluate_app.command("twin")(twin)


def control(
    samples: Annotated[
        str, typer.Option(help="Comma separated: tinball, grid, assorted, beads, gold.")
    ] = "tinball,grid",
    magnifications: Annotated[str, typer.Option(help="Comma separated.")] = "500,1000,2000,5000,10000",
    episodes: Annotated[int, typer.Option(min=1, help="Seeds 0.. of every cell.")] = 20,
    micrograph: Annotated[
        list[Path] | None, typer.Option(help="A real micrograph in focus as one more sample; may come several times.")
    ] = None,
    hollow: Annotated[int, typer.Option(min=0, help="Fields of a hollow, with nothing to focus on, as well.")] = 0,
    twin: Annotated[int, typer.Option(min=0, help="Runs on the feature-level twin as well.")] = 0,
    models: ModelsOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for table.txt, control.json, fig8.png and every run; an interrupted evaluation continues."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    *,
    as_json: JsonOption = False,
) -> None:
    """Table I and Fig. 8: whole runs on the image simulator, judged by its ground truth."""
    from rich.console import Console
    from rich.progress import track

    from semd.evaluation.control.control_report import ControlPlan, evaluate_control

    plan = ControlPlan(tuple(grid_cells(samples, magnifications)), tuple(micrograph or ()), episodes, hollow, twin)
    console = Console(stderr=True)
    found = evaluate_control(
        plan, models, workers, lambda steps, total, doing: track(steps, doing, total=total, console=console), out
    )
    print_report(found.as_text(), found.as_json(), as_json=as_json)


def peers(
    samples: Annotated[str, typer.Option(help="Comma separated.")] = "tinball,grid",
    magnifications: Annotated[str, typer.Option(help="Comma separated.")] = "500,1000,2000,5000,10000",
    episodes: Annotated[int, typer.Option(min=1, help="Seeds 0.. of every cell in every noise setting.")] = 5,
    only: Annotated[str | None, typer.Option("--peers", help="Methods, comma separated; default all.")] = None,
    models: ModelsOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder for peers.txt, .csv, .json and runs.csv.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Compare semd with autofocus baselines on the same fields, starts and noise (extra `peers` for all)."""
    from rich.console import Console
    from rich.progress import track

    from semd.evaluation.baselines import comparison_report as report
    from semd.evaluation.baselines.comparison import compare
    from semd.evaluation.baselines.methods import make_methods
    from semd.evaluation.baselines.scenario import SCENARIOS
    from semd.evaluation.control.table_one import simulator_rules
    from semd.pipeline import load_pipeline

    cells = grid_cells(samples, magnifications)
    methods = make_methods(load_pipeline(models, 1, simulator_rules), only.split(",") if only is not None else None)
    console = Console(stderr=True)
    found = compare(methods, SCENARIOS, cells, episodes, lambda starts: track(starts, "comparing", console=console))
    if out is not None:
        report.save(found, out)
    print_report(report.as_text(found), report.as_json(found), as_json=as_json)
    if found.interrupted:
        raise typer.Exit(1)


def reward(
    fields: Annotated[int, typer.Option(min=1, help="Seeds 0.. of tin ball and of grid.")] = 4,
    magnification: Annotated[int, typer.Option(min=1)] = 2000,
    steps: Annotated[int, typer.Option(min=2, help="Settings of each knob.")] = 17,
    models: ModelsOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder for reward.txt, reward.json and reward.png.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Equation (6) over brightness and contrast in focus: compare the best reward with the best picture."""
    from rich.console import Console
    from rich.progress import track

    from semd.evaluation.control.reward_grid import evaluate_reward
    from semd.scoring.scorer import Scorer
    from semd.training.control.control_settings import AIM

    scorer = Scorer.load(scorer_bytes(models, None))
    kinds: tuple[Sample, ...] = ("tinball", "grid")
    asked = [(sample, magnification, seed) for sample in kinds for seed in range(fields)]
    console = Console(stderr=True)
    found = evaluate_reward(scorer, asked, steps, AIM, lambda part: track(part, "fields", console=console))
    if out is not None:
        found.save(out)
    print_report(found.as_text(), found.as_json(), as_json=as_json)


def twin(
    samples: Annotated[str, typer.Option(help="Comma separated.")] = "tinball,grid,assorted",
    magnifications: Annotated[str, typer.Option(help="Comma separated.")] = "500,1000,2000,5000,10000",
    fields: Annotated[int, typer.Option(min=1, help="Seeds 0.. of every cell.")] = 2,
    scored: Annotated[
        int, typer.Option(min=0, help="Seeds of every cell whose scores' errors are compared; 0 leaves that out.")
    ] = 0,
    models: ModelsOption = None,
    weights: WeightsOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Compare the feature-level twin with rendered frames, over defocus, brightness and contrast."""
    from rich.console import Console
    from rich.progress import track

    from semd.evaluation.twin.twin_errors import compare_errors
    from semd.evaluation.twin.twin_likeness import compare_twin
    from semd.scoring.scorer import Scorer

    console = Console(stderr=True)
    cells = grid_cells(samples, magnifications)
    found = compare_twin(cells, fields, lambda part: track(part, "cells", console=console))
    text, values, is_like = found.as_text(), found.as_json(), found.is_like
    if scored:
        scorer = Scorer.load(scorer_bytes(models, weights))
        errors = compare_errors(cells, scored, scorer.judge, lambda part: track(part, "scores", console=console))
        text, is_like = f"{text}\n\n{errors.as_text()}", is_like and not errors.beyond
        values |= {"errors": errors.as_json()}
    print_report(text, values, as_json=as_json)
    raise typer.Exit(0 if is_like else 1)
