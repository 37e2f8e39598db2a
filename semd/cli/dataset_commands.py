"""`semd dataset`: labelled frames, simulated or a lab's own."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from semd.cli.output import JsonOption, print_json
from semd.errors import ConfigError

dataset_app = typer.Typer(help="Labelled frames to train the scoring machine on.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    dataset_app.command("build")(build)
    dataset_app.command("import")(import_)
    app.add_typer(dataset_app, name="dataset")


def build(
    directory: Annotated[Path, typer.Argument(help="A new folder.")],
    frames: Annotated[int, typer.Option(min=1, help="Tin ball and grid frames; the papers' number.")] = 30272,
    frames_per_field: Annotated[int, typer.Option(min=1, help="Frames of each field of view.")] = 6,
    magnifications: Annotated[
        str, typer.Option(help="Comma separated; equally frequent.")
    ] = "500,1000,2000,5000,10000",
    assorted_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of further frames of other surfaces, for training only.")
    ] = 0.2,
    beads_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of latex beads among the other surfaces.")
    ] = 0.0,
    test_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Fields, and frames, kept for the two tests; default: the papers'.")
    ] = 3037 / 30272,
    empty_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of featureless fields among those of the grid.")
    ] = 0.0,
    far_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of blurs beyond the end of the score's scale.")
    ] = 0.0,
    smoothed_share: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Share of the other blurs that smooth the finished frame with its noise."),
    ] = 0.0,
    label_noise: Annotated[float, typer.Option(min=0.0, help="Standard deviation of the expert in points.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Simulate labelled frames."""
    from semd.datasets.simulated import DatasetSpec, build_dataset, read_magnifications

    spec = DatasetSpec(
        frames=frames,
        frames_per_field=frames_per_field,
        magnifications=read_magnifications(magnifications),
        assorted_share=assorted_share,
        beads_share=beads_share,
        test_share=test_share,
        empty_share=empty_share,
        far_share=far_share,
        smoothed_share=smoothed_share,
        label_noise=label_noise,
        seed=seed,
    )
    print(build_dataset(spec, directory, workers))


def import_(
    directory: Annotated[Path, typer.Argument(help="The frames, with sidecars where there are any.")],
    table: Annotated[Path, typer.Option(help="CSV: file,score[,magnification,field,sample].")],
    out: Annotated[Path, typer.Option(help="The dataset.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="A semd.toml; its watch section says dialect, size and info bar.")
    ] = None,
    dialect: Annotated[
        str | None,
        typer.Option(help="Dialect of the sidecars: coxem, hitachi, ...; default: the configured one, or coxem."),
    ] = None,
    test_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of fields, and of frames, in the two tests.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Seed of the splits.")] = 0,
    *,
    append: Annotated[bool, typer.Option("--append", help="Add to a dataset that is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a dataset of real frames and a table of scores, with the daemon's preprocessing.

    Files larger than a frame are scaled to it; of frames larger than 640x480 the middle is taken.
    """
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
