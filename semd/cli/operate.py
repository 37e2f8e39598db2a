"""Commands of the lab: run, middle-client, inspect, health, abort, audit, model verify, model export."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from semd.cli import safety
from semd.cli.output import ConfigOption, JsonOption, print_json
from semd.errors import ConfigError, FrameError, ModelError

model_app = typer.Typer(help="The weights and their manifest.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(run)
    app.command("middle-client")(middle_client)
    app.command()(inspect)
    app.command()(health)
    model_app.command("verify")(verify)
    model_app.command("export")(export)
    model_app.command("card")(card)
    app.add_typer(model_app, name="model")
    safety.register(app)


def run(config: ConfigOption) -> None:
    """Run the daemon: watch for frames, answer each with an action file."""
    from semd.config import load_config
    from semd.daemon.daemon_process import run_daemon

    raise typer.Exit(run_daemon(load_config(config)))


def middle_client(
    config: ConfigOption,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Open no link; file every action in dry-run.")] = False,
) -> None:
    """Run the Middle Client: forward action files to the microscope's socket."""
    from semd.config import load_config
    from semd.domain.axes import Axis
    from semd.middle_client.client_process import run_middle_client
    from semd.middle_client.settings import MiddleClientSettings
    from semd.service.logs import configure_logs

    settings = load_config(config)
    configure_logs(
        settings.log_directory / "middle-client.log",
        level=settings.log.level,
        max_bytes=int(settings.log.max_mb * 1e6),
    )
    link, rules = settings.link, settings.rules(n_frames=1, rho=1.0)
    raise typer.Exit(
        run_middle_client(
            MiddleClientSettings(
                action_directory=settings.actions.directory,
                state_directory=settings.state.directory,
                host=link.host,
                port=link.port,
                allow_remote=link.allow_remote,
                dialect=link.dialect,
                connect_timeout_s=link.connect_timeout_s,
                answer_timeout_s=link.answer_timeout_s,
                confirm_timeout_s=link.confirm_timeout_s,
                brightness_command=link.brightness_command,
                contrast_command=link.contrast_command,
                readback_wd_mm=settings.control.readback_wd_um * 1e-3,
                readback_scale=max(rules.readback_tolerance(axis) for axis in (Axis.BRIGHTNESS, Axis.CONTRAST)),
                profile=settings.instrument.read(),
                most_commands_per_minute=link.most_commands_per_minute,
                abort_file=settings.actions.abort_file,
                dry_run=dry_run or settings.actions.dry_run,
                end_hung_s=settings.health.end_hung_s,
            )
        )
    )


def inspect(
    image: Annotated[Path, typer.Argument(help="A frame's image.")],
    params: Annotated[Path | None, typer.Argument(help="Its parameter text.")] = None,
    dialect: Annotated[str, typer.Option(help="Whose parameters: coxem, hitachi, jeol, ...")] = "coxem",
    magnification: Annotated[float | None, typer.Option(help="When there is no text.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what semd sees in one frame: parameters, features, exposure, score."""
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


def health(config: ConfigOption, *, as_json: JsonOption = False) -> None:
    """Say whether daemon and Middle Client are well; exit status 1 with the reasons when not."""
    import time

    from semd.config import load_config
    from semd.daemon.health import check_health

    report = check_health(load_config(config), time.time())
    if as_json:
        print_json(dataclasses.asdict(report))
    else:
        print("; ".join(["healthy" if report.healthy else "not healthy", *report.reasons, *report.notes]))
    raise typer.Exit(0 if report.healthy else 1)


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
    seed: Annotated[int, typer.Option(help="Of the choice of frames, or of their simulation.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes of the simulation.")] = 2,
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
