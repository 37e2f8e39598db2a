"""`semd simulate` and `semd demo`: a virtual microscope."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from semd.cli.output import ConfigOption, JsonOption, print_json
from semd.errors import ConfigError

SampleOption = Annotated[str, typer.Option(help="tinball, grid or assorted.")]
MagnificationOption = Annotated[float, typer.Option(help="500 to 10000.")]
SeedOption = Annotated[int, typer.Option(help="Decides field, stage height and start.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(simulate)
    app.command()(demo)


def simulate(
    config: ConfigOption,
    sample: SampleOption = "tinball",
    magnification: MagnificationOption = 2000.0,
    seed: SeedOption = 0,
    manner: Annotated[str, typer.Option(help="image-first, text-first, slow, preallocated or rename.")] = "image-first",
    image_format: Annotated[str, typer.Option(help="jpg, png, bmp or tif.")] = "jpg",
    encoding: Annotated[str, typer.Option(help="Encoding of the text: utf-8, utf-8-sig, utf-16, cp949.")] = "utf-8",
    pause_s: Annotated[float, typer.Option(help="Between the pieces a slow writer writes.")] = 0.02,
    link_faults: Annotated[float, typer.Option(help="Share of commands at which the link fails, 0 to 1.")] = 0.0,
    writer_faults: Annotated[float, typer.Option(help="Share of frames that are saved badly, 0 to 1.")] = 0.0,
) -> None:
    """Simulate the microscope: write frames to the watch directory, listen on the link, obey."""
    from semd.config import load_config
    from semd.simulator.serve import SimulateSpec, serve_microscope

    settings = load_config(config)
    spec = SimulateSpec.checked(
        sample=sample,
        magnification=magnification,
        seed=seed,
        manner=manner,
        image_format=image_format,
        encoding=encoding,
        pause_s=pause_s,
        link_faults=link_faults,
        writer_faults=writer_faults,
    )
    serve_microscope(settings, spec, print)


def demo(
    sample: SampleOption = "tinball",
    magnification: MagnificationOption = 2000.0,
    seed: SeedOption = 0,
    layout: Annotated[str, typer.Option(help="series or single.")] = "series",
    link: Annotated[str, typer.Option(help="text, or aisem which moves the working distance alone.")] = "text",
    directory: Annotated[
        Path | None, typer.Option(help="Directory of files and report; default: a new temporary folder.")
    ] = None,
    models: Annotated[Path | None, typer.Option(help="Default: the weights that came with semd.")] = None,
    filmstrip: Annotated[
        Path | None, typer.Option(help="Also write the run's frames side by side into this JPEG.", show_default=False)
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Watch a virtual SEM get sharp: real daemon, real Middle Client, real files, real socket."""
    from semd.demo.demo import DemoSpec, DemoStep, run_demo
    from semd.demo.demo_report import render_report
    from semd.demo.filmstrip import render_filmstrip
    from semd.protocol.action import Status
    from semd.protocol.pairing import Layout
    from semd.simulator.serve import checked_sample

    if layout not in set(Layout) or link not in ("text", "aisem"):
        raise ConfigError("--layout is series or single, --link is text or aisem")
    spec = DemoSpec(checked_sample(sample), magnification, seed, Layout(layout), link, models)
    where = directory or Path(tempfile.mkdtemp(prefix="semd-demo-"))
    print(f"{sample} at x{magnification:g}, seed {seed}; files in {where}", flush=True)

    def live(step: DemoStep) -> None:
        scan, action = step.scan, step.action
        print(
            f"frame {step.number:2d}  score {action.score:5.2f}  WD {scan.wd_mm:8.4f} mm  "
            f"brightness {scan.brightness:6.2f}  contrast {scan.contrast:6.2f}  -> {action.status}",
            flush=True,
        )

    result = run_demo(spec, where, live)
    report = where / "report.html"
    report.write_text(render_report(result), "utf-8")
    if filmstrip is not None:
        filmstrip.parent.mkdir(parents=True, exist_ok=True)
        filmstrip.write_bytes(render_filmstrip(result.steps))
    print(f"report: {report}")
    values = result.as_json()
    if as_json:
        print_json(values)
    else:
        print(", ".join(f"{key} {value}" for key, value in values.items()))
    raise typer.Exit(0 if values["status"] == Status.DONE else 1)
