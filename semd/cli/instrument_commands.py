"""`semd run`, `semd middle-client` and `semd health`: what runs at the instrument."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from semd.cli.output import ConfigOption, JsonOption, print_json


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(run)
    app.command("middle-client")(middle_client)
    app.command()(health)


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


def health(config: ConfigOption, *, as_json: JsonOption = False) -> None:
    """Check daemon and Middle Client; exit status 1, with the reasons, if one is not healthy."""
    import time

    from semd.config import load_config
    from semd.daemon.health import check_health

    report = check_health(load_config(config), time.time())
    if as_json:
        print_json(dataclasses.asdict(report))
    else:
        print("; ".join(["healthy" if report.healthy else "not healthy", *report.reasons, *report.notes]))
    raise typer.Exit(0 if report.healthy else 1)
