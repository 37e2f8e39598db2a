"""Commands that measure: evaluate score, real, control, peers, reward, twin, loop, latency."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semd.cli.output import JsonOption, print_report
from semd.errors import ConfigError

if TYPE_CHECKING:
    from semd.simulator.field import Sample

evaluate_app = typer.Typer(help="Measure against ground truth, with the papers' figures beside.", no_args_is_help=True)

ModelsOption = Annotated[Path | None, typer.Option("--models", help="Default: the weights that came with semd.")]

WeightsOption = Annotated[Path | None, typer.Option(help="A candidate's weights instead of the models folder's.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    evaluate_app.command("score")(score)
    evaluate_app.command("real")(real)
    evaluate_app.command("control")(control)
    evaluate_app.command("peers")(peers)
    evaluate_app.command("reward")(reward)
    evaluate_app.command("twin")(twin)
    evaluate_app.command("loop")(loop)
    evaluate_app.command("latency")(latency)
    app.add_typer(evaluate_app, name="evaluate")


def score(
    data: Annotated[Path, typer.Option(help="A dataset; `semd dataset build` makes one.")],
    models: ModelsOption = None,
    weights: WeightsOption = None,
    rival: Annotated[
        list[str] | None,
        typer.Option(help="NAME=WEIGHTS of a network to compare with: resnet50, no-magnification, or any name."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for tables.txt, .csv, .png, score.json, fig1.png.")] = None,
    most_frames: Annotated[int | None, typer.Option(min=1, help="Frames of each split; default all.")] = None,
    faulty: Annotated[int, typer.Option(min=1, help="Simulated frames of each fault.")] = 250,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    *,
    as_json: JsonOption = False,
) -> None:
    """The papers' Tables 1 and 2 on both splits, the 0 class, the flags, and Fig. 1."""
    from rich.progress import track

    from semd.datasets.dataset import read_dataset
    from semd.evaluation.score.score_report import evaluate_score, parse_baselines
    from semd.scoring.scorer import Scorer

    baselines = {name: Scorer.load(path.read_bytes(), threads) for name, path in parse_baselines(rival or []).items()}
    scorer = Scorer.load(_scorer_bytes(models, weights), threads)
    found = evaluate_score(read_dataset(data), scorer, baselines, track, most_frames=most_frames, faulty=faulty)
    if out is not None:
        found.save(out)
    print_report(found.as_text(), found.as_json(), as_json=as_json)


def real(
    directory: Annotated[Path, typer.Argument(help="Holds deepfocus, gold, zeiss, or some of them.")],
    models: ModelsOption = None,
    weights: WeightsOption = None,
    gold_magnification: Annotated[
        float,
        typer.Option(min=1.0, help="Of the gold frames, whose own is not known; their grains say x10000 or more."),
    ] = 10000.0,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    *,
    as_json: JsonOption = False,
) -> None:
    """Real micrographs: are they put in order of focus, are sharp ones called sharp, does blurring lower the score."""
    from rich.progress import track

    from semd.evaluation.score.real_frames import evaluate_real
    from semd.scoring.scorer import Scorer

    found = evaluate_real(directory, Scorer.load(_scorer_bytes(models, weights), threads), track, gold_magnification)
    print_report(found.as_text(), found.as_json(), as_json=as_json)


def _scorer_bytes(models: Path | None, weights: Path | None) -> bytes:
    """The scoring machine's file: a candidate named by itself, or the one of a models folder, verified."""
    from semd.model_store import default_directory, load_model

    if weights is None:
        return load_model(models or default_directory(), "scorer").data
    try:
        return weights.read_bytes()
    except OSError as error:
        raise ConfigError(f"--weights {weights}: cannot be read: {error.strerror}") from error


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
        Path | None, typer.Option(help="A folder for table.txt, control.json, fig8.png and every run; goes on from it.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    *,
    as_json: JsonOption = False,
) -> None:
    """Table I and Fig. 8: whole runs on the image simulator, judged by its ground truth."""
    from rich.console import Console
    from rich.progress import track

    from semd.evaluation.control.control_report import ControlPlan, evaluate_control

    plan = ControlPlan(tuple(_cells(samples, magnifications)), tuple(micrograph or ()), episodes, hollow, twin)
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
    out: Annotated[Path | None, typer.Option(help="A folder for peers.txt, .csv, .json and runs.csv.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Autofocus methods a user could pick instead, on the same fields, starts and noise; extra `peers` has them all."""
    from rich.console import Console
    from rich.progress import track

    from semd.evaluation.baselines import comparison_report as report
    from semd.evaluation.baselines.comparison import compare
    from semd.evaluation.baselines.methods import make_methods
    from semd.evaluation.baselines.scenario import SCENARIOS
    from semd.evaluation.control.table_one import simulator_rules
    from semd.pipeline import load_pipeline

    cells = _cells(samples, magnifications)
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
    out: Annotated[Path | None, typer.Option(help="A folder for reward.txt, reward.json and reward.png.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Equation (6) over brightness and contrast in focus: is the best reward the best picture?"""
    from rich.console import Console
    from rich.progress import track

    from semd.evaluation.control.reward_grid import evaluate_reward
    from semd.scoring.scorer import Scorer
    from semd.training.control.control_settings import AIM

    scorer = Scorer.load(_scorer_bytes(models, None))
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
    """The feature-level twin beside rendered frames, over defocus, brightness and contrast: is it like them?"""
    from rich.console import Console
    from rich.progress import track

    from semd.evaluation.twin.twin_errors import compare_errors
    from semd.evaluation.twin.twin_likeness import compare_twin
    from semd.scoring.scorer import Scorer

    console = Console(stderr=True)
    cells = _cells(samples, magnifications)
    found = compare_twin(cells, fields, lambda part: track(part, "cells", console=console))
    text, values, is_like = found.as_text(), found.as_json(), found.is_like
    if scored:
        scorer = Scorer.load(_scorer_bytes(models, weights))
        errors = compare_errors(cells, scored, scorer.judge, lambda part: track(part, "scores", console=console))
        text, is_like = f"{text}\n\n{errors.as_text()}", is_like and not errors.beyond
        values |= {"errors": errors.as_json()}
    print_report(text, values, as_json=as_json)
    raise typer.Exit(0 if is_like else 1)


def _cells(samples: str, magnifications: str) -> list[tuple[Sample, int]]:
    """Every sample at every magnification, from what was typed."""
    from semd.simulator.serve import checked_sample

    try:
        return [
            (checked_sample(sample), int(magnification))
            for sample in samples.split(",")
            for magnification in magnifications.split(",")
        ]
    except ValueError as error:
        raise ConfigError(f"--magnifications {magnifications!r}: whole numbers, comma separated") from error


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
    out: Annotated[Path | None, typer.Option(help="A folder for latency.json and latency.txt.")] = None,
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
