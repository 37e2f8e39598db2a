"""Commands that learn from a lab's own frames: dataset import, calibrate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from semd.cli.learn import dataset_app
from semd.cli.output import ConfigOption, JsonOption, print_json
from semd.errors import CalibrationError, ConfigError


def register(app: typer.Typer) -> None:
    """Add these commands."""
    dataset_app.command("import")(import_)
    app.command()(calibrate)


def import_(
    directory: Annotated[Path, typer.Argument(help="The frames, with sidecars where there are any.")],
    table: Annotated[Path, typer.Option(help="CSV: file,score[,magnification,field,sample].")],
    out: Annotated[Path, typer.Option(help="The dataset.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="A semd.toml; its watch section says dialect, size and info bar.")
    ] = None,
    dialect: Annotated[
        str | None, typer.Option(help="Of the sidecars: coxem, hitachi, ...; default: the configured one, or coxem.")
    ] = None,
    test_share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of fields and of frames.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Of the splits.")] = 0,
    *,
    append: Annotated[bool, typer.Option("--append", help="Add to a dataset that is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a dataset of real frames and a table of scores, seen as the daemon would see them.

    Files larger than a frame are scaled to it; of frames larger than 640x480 the middle is taken.
    """
    from dataclasses import asdict

    from semd.config import load_config
    from semd.datasets.dataset_import import ImportSpec, import_dataset
    from semd.inbox.image import FrameSize
    from semd.protocol.pairing import Dialect

    watch = load_config(config).watch if config is not None else None
    word = dialect or (watch.dialect if watch is not None else Dialect.COXEM)
    if word not in set(Dialect):
        raise ConfigError(f"dialect {word!r} is not known; there are {', '.join(Dialect)}")
    size = FrameSize()
    if watch is not None:
        size = FrameSize(watch.width_px, watch.height_px, watch.info_bar_px, int(watch.max_image_mb * 1e6))
    result = import_dataset(
        ImportSpec(
            directory=directory,
            table=table,
            out=out,
            append=append,
            dialect=Dialect(word),
            size=size,
            test_share=test_share,
            seed=seed,
        ),
        progress=sys.stderr.isatty(),
    )
    if as_json:
        print_json(asdict(result))
        return
    print(f"{result.frames} frames of {result.fields} fields imported into {out}")
    if result.cropped:
        print(f"{result.cropped} of them were larger than 640x480: their middle was taken")


def calibrate(
    config: ConfigOption,
    out: Annotated[Path, typer.Option(help="A models folder: the new weights go there, if they are better.")],
    data: Annotated[
        Path | None, typer.Option(help="A dataset that must not be forgotten; `semd dataset build` makes one.")
    ] = None,
    sweeps: Annotated[
        Path | None, typer.Option(help="Dataset of sweeps, added to; default: `sweeps` in the state directory.")
    ] = None,
    reach: Annotated[float, typer.Option(min=0.1, help="Of the coarse pass to either side, in focus units.")] = 12.0,
    coarse_step: Annotated[float, typer.Option(min=0.01, help="Of the coarse pass, in focus units.")] = 2.0,
    fine_reach: Annotated[float, typer.Option(min=0.1, help="Of the fine pass to either side, in focus units.")] = 4.0,
    fine_step: Annotated[float, typer.Option(min=0.01, help="Of the fine pass, in focus units.")] = 0.5,
    spot_nm: Annotated[float, typer.Option(min=0.0, help="Width of the focused beam (FWHM): the least blur.")] = 25.0,
    held_out: Annotated[float, typer.Option(help="Share of the sweep that is not learned from.")] = 0.3,
    steps: Annotated[int, typer.Option(min=1, help="Of the fine-tuning.")] = 200,
    seed: Annotated[int, typer.Option(help="Of what is kept aside, and of the fine-tuning.")] = 0,
    *,
    as_json: JsonOption = False,
) -> None:
    """Sweep the focus, label the frames by it, and fine-tune the scoring machine; kept only if that helped.

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
        f"RMSE on {fine_tuning.held_out} frames kept aside: {fine_tuning.sweep_before:.3f} before, {fine_tuning.sweep_after:.3f} after"
    )
    if fine_tuning.data_before is not None:
        print(f"RMSE on the dataset's test: {fine_tuning.data_before:.3f} before, {fine_tuning.data_after:.3f} after")
    else:
        print("without --data nobody has checked what was forgotten")
    if fine_tuning.unfamiliar > 0.0:
        print(
            f"{fine_tuning.unfamiliar:.0%} of the frames are called unlike the training; such frames never end in DONE"
        )
    print(f"the new weights are in {out}" if result.stored else "that did not help: nothing was replaced")
    if as_json:
        print_json(result.as_json())
    raise typer.Exit(0 if result.stored else 1)
