"""Commands that wear semd out: evaluate fuzz, evaluate soak."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from semd.cli.evaluate import evaluate_app
from semd.cli.output import JsonOption, print_json


def register(_: typer.Typer) -> None:
    """Add these commands to those of `semd evaluate`."""
    evaluate_app.command("fuzz")(fuzz)
    evaluate_app.command("soak")(soak)


def fuzz(
    inputs: Annotated[int, typer.Option(min=1, help="At least so many, in all targets together.")] = 1_000_000,
    seed: Annotated[int, typer.Option(help="Of the inputs.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    only: Annotated[str, typer.Option("--targets", help="Comma separated; default all.")] = "",
    corpus: Annotated[
        Path | None, typer.Option(help="A folder of seeds for each target; default: tests/fuzz/corpus of the sources.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A folder for fuzz.json, fuzz.txt and findings; goes on from it.")
    ] = None,
    memory_mb: Annotated[int, typer.Option(min=64, help="What a process may take beyond its libraries.")] = 1024,
    limit_s: Annotated[float, typer.Option(min=0.01, help="CPU time that an input may take.")] = 2.0,
    *,
    as_json: JsonOption = False,
) -> None:
    """Feed every parser damaged and twisted inputs; exit status 1 if one crashes, hangs or costs too much."""
    from rich.console import Console
    from rich.progress import Progress

    import semd
    from semd.campaigns.fuzz.fuzz_campaign import FuzzSpec, run_campaign

    spec = FuzzSpec(
        inputs=inputs,
        seed=seed,
        corpus=corpus or Path(semd.__file__).resolve().parent.parent / "tests" / "fuzz" / "corpus",
        workers=workers,
        only=tuple(name for name in only.split(",") if name),
        out=out,
        memory_mb=memory_mb,
        limit_s=limit_s,
    )
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("inputs", total=inputs)
        report = run_campaign(spec, lambda more: progress.advance(bar, more))
    if as_json:
        print_json(report.as_json())
    else:
        print(report.as_text())
    raise typer.Exit(0 if report.clean and not report.interrupted else 1)


def soak(
    frames: Annotated[int, typer.Option(min=1, help="To be saved and answered.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Of pictures and faults.")] = 0,
    writer_faults: Annotated[float, typer.Option(min=0, max=1, help="Share of pairs saved in a wrong way.")] = 0.01,
    link_faults: Annotated[float, typer.Option(min=0, max=1, help="Share of messages answered wrongly.")] = 0.002,
    kills: Annotated[int, typer.Option(min=0, help="Kill daemon and Middle Client in turns, so often in all.")] = 0,
    window: Annotated[int, typer.Option(min=1, help="Frames under way at once.")] = 24,
    sample_s: Annotated[float, typer.Option(min=0.05, help="Between two looks at the processes.")] = 1.0,
    directory: Annotated[
        Path | None,
        typer.Option(help="An empty folder, kept afterwards; default: a temporary one, in memory if it fits."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for soak.txt, soak.json and samples.csv.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Flood real processes with frames and faults; exit status 1 if one is lost or answered twice, or anything grows.

    Everything is real but the networks, in whose place stand-ins say five and never move.
    """
    from rich.console import Console
    from rich.progress import Progress

    from semd.campaigns.soak.soak import SoakSpec, run_soak

    spec = SoakSpec(
        frames=frames,
        seed=seed,
        writer_faults=writer_faults,
        link_faults=link_faults,
        kills=kills,
        window=window,
        sample_s=sample_s,
        directory=directory,
    )
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("frames", total=frames)
        report = run_soak(spec, lambda ended: progress.update(bar, completed=ended))
    if out is not None:
        report.save(out)
    if as_json:
        print_json(report.as_json())
    else:
        print(report.as_text())
    raise typer.Exit(0 if report.passed else 1)
