"""`semd evaluate score` and `real`: the scoring machine against ground truth and real micrographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from semd.cli.evaluation_options import ModelsOption, WeightsOption, evaluate_app, scorer_bytes
from semd.cli.output import JsonOption, print_report


def register(_: typer.Typer) -> None:
    """Add these commands."""
    evaluate_app.command("score")(score)
    evaluate_app.command("real")(real)


def score(
    data: Annotated[Path, typer.Option(help="A dataset; `semd dataset build` makes one.")],
    models: ModelsOption = None,
    weights: WeightsOption = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(help="NAME=WEIGHTS of a baseline network: resnet50, no-magnification, or any name."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for tables.txt, .csv, .png, score.json, fig1.png.")] = None,
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

    baselines = {
        name: Scorer.load(path.read_bytes(), threads) for name, path in parse_baselines(baseline or []).items()
    }
    scorer = Scorer.load(scorer_bytes(models, weights), threads)
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
        typer.Option(
            min=1.0, help="Magnification of the gold frames, which is not recorded; by their grains, x10000 or more."
        ),
    ] = 10000.0,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    *,
    as_json: JsonOption = False,
) -> None:
    """Check scores of real micrographs: order of focus, sharp frames, and the effect of blurring."""
    from rich.progress import track

    from semd.evaluation.score.real_frames import evaluate_real
    from semd.scoring.scorer import Scorer

    found = evaluate_real(directory, Scorer.load(scorer_bytes(models, weights), threads), track, gold_magnification)
    print_report(found.as_text(), found.as_json(), as_json=as_json)
