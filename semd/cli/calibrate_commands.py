"""`semd calibrate`: learn from the instrument itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from semd.cli.output import ConfigOption, JsonOption, print_json
from semd.errors import CalibrationError


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(calibrate)


def calibrate(
    config: ConfigOption,
    out: Annotated[Path, typer.Option(help="A models folder: the new weights go there, if they are better.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Dataset on which the weights must not become worse."),
    ] = None,
    sweeps: Annotated[
        Path | None, typer.Option(help="Dataset of sweeps, added to; default: `sweeps` in the state directory.")
    ] = None,
    reach: Annotated[float, typer.Option(min=0.1, help="Half width of the coarse sweep, in focus units.")] = 12.0,
    coarse_step: Annotated[float, typer.Option(min=0.01, help="Step of the coarse sweep, in focus units.")] = 2.0,
    fine_reach: Annotated[float, typer.Option(min=0.1, help="Half width of the fine sweep, in focus units.")] = 4.0,
    fine_step: Annotated[float, typer.Option(min=0.01, help="Step of the fine sweep, in focus units.")] = 0.5,
    spot_nm: Annotated[float, typer.Option(min=0.0, help="Width of the focused beam (FWHM): the least blur.")] = 25.0,
    held_out: Annotated[float, typer.Option(help="Share of the sweep that is held out of the training.")] = 0.3,
    steps: Annotated[int, typer.Option(min=1, help="Number of fine-tuning steps.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the hold-out and of the fine-tuning.")] = 0,
    *,
    as_json: JsonOption = False,
) -> None:
    """Sweep the focus, label the frames, fine-tune the scoring machine; better weights are kept, others dropped.

    The daemon must be stopped, the Middle Client must run. Ctrl+C goes back to the working distance of the start.
    """
    from semd.calibration.calibration import CalibrationSpec
    from semd.calibration.calibration import calibrate as calibrate_instrument
    from semd.calibration.focus_sweep import SweepPlan
    from semd.config import load_config

    settings = load_config(config)
    spec = CalibrationSpec(
        out=out,
        sweeps=sweeps or settings.state.directory / "sweeps",
        data=data,
        plan=SweepPlan(reach, coarse_step, fine_reach, fine_step),
        spot_nm=spot_nm,
        held_out=held_out,
        steps=steps,
        seed=seed,
    )

    def show(line: str) -> None:
        print(line, flush=True)

    try:
        result = calibrate_instrument(settings, spec, show, progress=sys.stderr.isatty())
    except CalibrationError as error:
        print(error, file=sys.stderr)
        if as_json:
            print_json({"stored": False, "error": error.code, "message": error.message})
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("interrupted; nothing was replaced", file=sys.stderr)
        if as_json:
            print_json({"stored": False, "error": "interrupted"})
        raise typer.Exit(1) from None
    fine_tuning = result.fine_tuning
    print(
        f"RMSE on {fine_tuning.held_out} hold-out frames: {fine_tuning.sweep_before:.3f} before, "
        f"{fine_tuning.sweep_after:.3f} after"
    )
    if fine_tuning.data_before is not None:
        print(f"RMSE on the dataset's test: {fine_tuning.data_before:.3f} before, {fine_tuning.data_after:.3f} after")
    else:
        print("without --data nothing shows how well earlier data are still scored")
    if fine_tuning.unfamiliar > 0.0:
        print(f"{fine_tuning.unfamiliar:.0%} of the frames are out of distribution; such frames never end in DONE")
    print(f"the new weights are in {out}" if result.stored else "that did not help: nothing was replaced")
    if as_json:
        print_json(result.as_json())
    raise typer.Exit(0 if result.stored else 1)
