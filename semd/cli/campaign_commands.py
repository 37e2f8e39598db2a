"""`semd evaluate fuzz`, `soak` and `crashes`: campaigns against parsers, load and sudden ends."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semd.cli.evaluation_options import evaluate_app
from semd.cli.output import JsonOption, print_json
from semd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from semd.campaigns.crashes.crash_campaign import CrashCampaignSpec, CrashRunResult
    from semd.campaigns.crashes.steps import CrashStep


def register(_: typer.Typer) -> None:
    """Add these commands."""
    evaluate_app.command("fuzz")(fuzz)
    evaluate_app.command("soak")(soak)
    evaluate_app.command("crashes")(crashes)


def fuzz(
    inputs: Annotated[int, typer.Option(min=1, help="Least number of inputs, over all targets.")] = 1_000_000,
    seed: Annotated[int, typer.Option(help="Seed of the inputs.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 2,
    only: Annotated[str, typer.Option("--targets", help="Comma separated; default all.")] = "",
    corpus: Annotated[
        Path | None, typer.Option(help="A folder of seeds for each target; default: tests/fuzz/corpus of the sources.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for fuzz.json, fuzz.txt and findings; an interrupted campaign there is continued."),
    ] = None,
    memory_mb: Annotated[int, typer.Option(min=64, help="Largest memory of a process beyond its libraries.")] = 1024,
    limit_s: Annotated[float, typer.Option(min=0.01, help="Largest CPU time of one input.")] = 2.0,
    *,
    as_json: JsonOption = False,
) -> None:
    """Feed damaged inputs to every parser; exit status 1 if one crashes, hangs or exceeds its limits."""
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
    frames: Annotated[int, typer.Option(min=1, help="Number of frames.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Seed of images and faults.")] = 0,
    writer_faults: Annotated[
        float, typer.Option(min=0, max=1, help="Share of pairs that are saved with a fault.")
    ] = 0.01,
    link_faults: Annotated[
        float, typer.Option(min=0, max=1, help="Share of messages that are answered with a fault.")
    ] = 0.002,
    kills: Annotated[int, typer.Option(min=0, help="Number of kills, of daemon and Middle Client in turn.")] = 0,
    window: Annotated[int, typer.Option(min=1, help="Largest number of frames in flight.")] = 24,
    sample_s: Annotated[float, typer.Option(min=0.05, help="Period of the measurements of the processes.")] = 1.0,
    directory: Annotated[
        Path | None,
        typer.Option(help="An empty folder, kept afterwards; default: a temporary one, in memory if it fits."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for soak.txt, soak.json and samples.csv.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Send frames and faults to real processes; exit status 1 if a frame is lost or answered twice, or memory grows.

    Only the networks are replaced: by a constant scorer and an actor that never moves.
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


def crashes(
    layout: Annotated[list[str] | None, typer.Option(help="series, single; default both.")] = None,
    dialect: Annotated[list[str] | None, typer.Option(help="text, aisem; default both.")] = None,
    failpoint: Annotated[list[str] | None, typer.Option(help="Name of a failpoint; default all.")] = None,
    mode: Annotated[list[str] | None, typer.Option(help="kill, full (disk full); default both.")] = None,
    hit: Annotated[
        list[int] | None, typer.Option(min=1, help="Occurrence of the failpoint that strikes; default 2.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="New folder for crashes.json and the files of all runs.")] = None,
    patience_s: Annotated[float, typer.Option(min=1.0, help="Timeout of each wait, in seconds.")] = 120.0,
    *,
    real: Annotated[bool, typer.Option("--real", help="Load the real networks instead of constant ones.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Kill daemon and Middle Client at every failpoint, fill their disk, cut the link; count what the SEM received.

    Exit status 1 when a frame was lost or answered twice, or an action applied twice. Ctrl+C prints the results so far.
    """
    from semd.campaigns.crashes.crash_campaign import CrashCampaignSpec, run_campaign

    spec = CrashCampaignSpec(is_real=real, patience_s=patience_s)
    spec = _restricted(spec, layout or [], dialect or [], failpoint or [], mode or [], hit or [])
    if out is not None and out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty: name a new folder")
    results: list[CrashRunResult] = []
    interrupted = False
    with tempfile.TemporaryDirectory(prefix="semd-crashes-", ignore_cleanup_errors=True) as name:
        try:
            for result in run_campaign(spec, out or Path(name), _show):
                results.append(result)
                _save(spec, results, out)
        except KeyboardInterrupt:
            interrupted = True
            print("interrupted; results of the finished runs:", file=sys.stderr)
    _report(results, as_json=as_json)
    fine = bool(results) and not interrupted and all(_is_fine(result) for result in results)
    raise typer.Exit(0 if fine else 1)


def _restricted(
    spec: CrashCampaignSpec,
    layouts: list[str],
    dialects: list[str],
    points: list[str],
    modes: list[str],
    hits: list[int],
) -> CrashCampaignSpec:

    from semd.protocol.pairing import Layout
    from semd.service.failpoints import Failpoint

    known: dict[str, tuple[list[str], list[str]]] = {
        "--layout": (layouts, [str(there) for there in Layout]),
        "--dialect": (dialects, ["text", "aisem"]),
        "--failpoint": (points, [str(there) for there in Failpoint]),
        "--mode": (modes, ["kill", "full"]),
    }
    for option, (words, there) in known.items():
        for word in words:
            if word not in there:
                raise ConfigError(f"{option} {word!r} is not known; there are {', '.join(there)}")
    return replace(
        spec,
        layouts=tuple(Layout(word) for word in layouts) or spec.layouts,
        dialects=tuple(dialects) or spec.dialects,
        points=tuple(Failpoint(word) for word in points) or spec.points,
        modes=tuple("kill" if word == "kill" else "full" for word in modes) or spec.modes,
        hits=tuple(hits) or spec.hits,
    )


def _show(step: CrashStep) -> None:
    took = f"{step.recovery_s:.2f} s" if step.recovery_s is not None else "(the next one struck before)"
    what = step.trouble or f"went on after {took}"
    print(f"{step.layout} {step.dialect}: {step.mode} {step.point} at {step.hit}: {what}", file=sys.stderr, flush=True)


def _is_fine(result: CrashRunResult) -> bool:
    return not result.strays and all(step.is_fine for step in result.steps)


def _save(spec: CrashCampaignSpec, results: Sequence[CrashRunResult], out: Path | None) -> None:

    from semd.campaigns.crashes.crash_campaign import as_json

    if out is not None:
        (out / "crashes.json").write_text(json.dumps(as_json(spec, results), indent=1, default=str) + "\n")


def _report(results: Sequence[CrashRunResult], *, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from semd.campaigns.crashes.crash_campaign import summarise

    counted = ("frames", "lost", "doubled", "applied_twice", "invented", "differing", "sent_again")
    table = Table("layout", "link", "what", "failpoint", *(name.replace("_", " ") for name in counted), "recovery s")
    for result in results:
        for step in result.steps:
            counts = [str(getattr(step, name)) for name in counted]
            took = f"{step.recovery_s:.2f}" if step.recovery_s is not None else "-"
            table.add_row(step.layout, step.dialect, step.mode, step.point, *counts, step.trouble or took)
    Console(width=max(Console().width, 132)).print(table)
    summary = summarise(results)
    for key, value in summary.items():
        print(f"{key:34} {value}")
    if as_json:
        print_json(summary)
