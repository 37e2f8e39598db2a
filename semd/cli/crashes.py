"""`semd evaluate crashes`: every failpoint in real processes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semd.cli.output import JsonOption, print_json
from semd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from semd.campaigns.crashes.crash_campaign import CrashCampaignSpec, CrashRunResult
    from semd.campaigns.crashes.steps import CrashStep


def register(evaluate_app: typer.Typer) -> None:
    """Add this command."""
    evaluate_app.command("crashes")(crashes)


def crashes(
    layout: Annotated[list[str] | None, typer.Option(help="series, single; default both.")] = None,
    dialect: Annotated[list[str] | None, typer.Option(help="text, aisem; default both.")] = None,
    failpoint: Annotated[list[str] | None, typer.Option(help="A name of the table; default all.")] = None,
    mode: Annotated[list[str] | None, typer.Option(help="kill, full (disk full); default both.")] = None,
    hit: Annotated[list[int] | None, typer.Option(min=1, help="At which time a point is reached; default 2.")] = None,
    out: Annotated[Path | None, typer.Option(help="A new folder: crashes.json, and all that the benches left.")] = None,
    patience_s: Annotated[float, typer.Option(min=1.0, help="How long anything may take.")] = 120.0,
    *,
    real: Annotated[bool, typer.Option("--real", help="With the networks, in place of stand-ins.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Kill daemon and Middle Client at every failpoint, fill their disk, cut the link; count what the SEM received.

    Exit status 1 when a frame was lost or answered twice, or an action applied twice. Ctrl+C prints what is known.
    """
    import tempfile

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
            print("interrupted; of the benches that were finished:", file=sys.stderr)
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
    from dataclasses import replace

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
    import json

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
