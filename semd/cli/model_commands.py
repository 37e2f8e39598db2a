"""`semd model`: the weights and their manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from semd.cli.output import JsonOption, print_json
from semd.errors import ConfigError, ModelError

model_app = typer.Typer(help="The weights and their manifest.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    model_app.command("verify")(verify)
    model_app.command("export")(export)
    model_app.command("card")(card)
    app.add_typer(model_app, name="model")


def verify(
    directory: Annotated[Path | None, typer.Option(help="Default: the weights that came with semd.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Check every model file against the manifest's SHA-256."""
    from collections.abc import Callable
    from functools import partial

    from semd.model_store import default_directory, load_model, load_runtime, read_manifest

    where = directory or default_directory()
    manifest = read_manifest(where)
    checks: dict[str, Callable[[], object]] = {role: partial(load_model, where, role) for role in manifest.models}
    for runtime in manifest.runtimes:
        checks[f"scorer {runtime}"] = partial(load_runtime, where, runtime)
    found: dict[str, str] = {}
    for name, check in checks.items():
        try:
            check()
            found[name] = "ok"
        except ModelError as error:
            found[name] = str(error)
    absent = [role for role in ("actor", "scorer") if role not in found]
    found |= dict.fromkeys(absent, f"{ModelError.code}: not in the manifest")
    fine = all(state == "ok" for state in found.values())
    if as_json:
        print_json({"ok": fine, "directory": str(where), **found})
    else:
        for name, state in found.items():
            print(f"{name}: {state}")
    raise typer.Exit(0 if fine else 1)


def export(
    runtime: Annotated[str, typer.Option(help="int8, or fp32.")],
    data: Annotated[Path | None, typer.Option(help="A dataset; without one, frames are simulated.")] = None,
    models: Annotated[Path | None, typer.Option("--models", help="Default: the weights that came with semd.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="Test frames to compare with eager torch.")] = 1000,
    calibration: Annotated[int, typer.Option(min=1, help="Training frames that int8 takes its scales from.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed of the choice of frames, or of their simulation.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 2,
    *,
    as_json: JsonOption = False,
) -> None:
    """Export the scorer to run faster than torch; refused when its scores differ. Do it on the machine that runs it."""
    from rich.console import Console
    from rich.progress import track

    from semd.model_store import default_directory
    from semd.training.export.runtime_export import ExportFrames, export_scorer

    if runtime not in ("fp32", "int8"):
        raise ConfigError(f"--runtime {runtime!r}: there are fp32 and int8")
    asked = ExportFrames(data=data, calibration=calibration, verification=frames, seed=seed, workers=workers)
    console = Console(stderr=True)
    entry = export_scorer(
        models or default_directory(),
        "int8" if runtime == "int8" else "fp32",
        asked,
        lambda steps, doing: track(steps, doing, console=console),
    )
    if as_json:
        print_json(entry.model_dump())
        return
    agreement = entry.figures["against_eager_torch"]
    print(
        f"{entry.file} is written ({entry.made['recipe']}): at most {agreement['largest']:.5f} points from eager torch "
        f'on {agreement["frames"]} frames. [scoring] runtime = "{runtime}" uses it'
    )


def card(
    directory: Annotated[Path | None, typer.Option(help="Default: the weights that came with semd.")] = None,
) -> None:
    """Write the generated part of the models folder's README.md anew from its manifest."""
    from semd.evaluation.model_card import update_card
    from semd.model_store import default_directory

    print(update_card(directory or default_directory()))
