"""The group `semd evaluate`, and options that its commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semd.cli.former_spellings import FormerSpellings
from semd.errors import ConfigError

if TYPE_CHECKING:
    from semd.simulator.field import Sample

evaluate_app = typer.Typer(
    help="Measure against ground truth, with the papers' figures beside.", no_args_is_help=True, cls=FormerSpellings
)
ModelsOption = Annotated[Path | None, typer.Option("--models", help="Default: the weights that came with semd.")]
WeightsOption = Annotated[Path | None, typer.Option(help="A candidate's weights instead of the models folder's.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(evaluate_app, name="evaluate")


def scorer_bytes(models: Path | None, weights: Path | None) -> bytes:
    """The scoring machine's file: a candidate named by itself, or the one of a models folder, verified."""
    from semd.model_store import default_directory, load_model

    if weights is None:
        return load_model(models or default_directory(), "scorer").data
    try:
        return weights.read_bytes()
    except OSError as error:
        raise ConfigError(f"--weights {weights}: cannot be read: {error.strerror}") from error


def grid_cells(samples: str, magnifications: str) -> list[tuple[Sample, int]]:
    """Every sample at every magnification, from what was typed."""
    from semd.simulator.serve import checked_sample

    try:
        return [
            (checked_sample(sample), int(magnification))
            for sample in samples.split(",")
            for magnification in magnifications.split(",")
        ]
    except ValueError as error:
        raise ConfigError(f"--magnifications {magnifications!r}: whole numbers, comma separated") from error
