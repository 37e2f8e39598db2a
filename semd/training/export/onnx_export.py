"""Export of a network's convolutional part; an export that disagrees with eager torch is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from semd.errors import ModelError
from semd.scoring.runtime.session import OnnxEngine
from semd.training.export.agreement import Agreement, FrameSubset, compare, extract_all
from semd.training.export.graph import build_graph
from semd.training.export.quantise import RECIPES, Recipe, quantise

if TYPE_CHECKING:
    from torch import Tensor

    from semd.model_store import ExportedRuntime
    from semd.scoring.network import FeatureEngine, ScoringNetwork
    from semd.training.export.agreement import Track

BOUNDS: dict[ExportedRuntime, float] = {"fp32": 0.001, "int8": 0.1}
"""Largest difference from eager torch in points of score that an exported model may have on any frame."""
_FP32 = "fp32, normalisation and folding put into the convolutions"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way of exporting.

    Attributes:
        recipe: what was done.
        agreement: what came of it.
    """

    recipe: str
    agreement: Agreement


@dataclass(frozen=True, slots=True)
class Export:
    """An exported model that keeps its bound.

    Attributes:
        model: the ONNX file.
        attempts: what was tried; the last one is the model's.
    """

    model: bytes
    attempts: tuple[Attempt, ...]


def export_runtime(
    network: ScoringNetwork,
    runtime: ExportedRuntime,
    calibration: FrameSubset,
    verification: FrameSubset,
    track: Track,
    recipes: tuple[Recipe, ...] = RECIPES,
) -> Export:
    """Export a network and compare it with eager torch on this machine.

    Int8 kernels round differently from one kind of processor to another, so what was verified holds for the kind it
    was verified on. For int8 the recipes are tried in turn until one keeps the bound.

    Args:
        network: the trained network, in inference mode.
        runtime: how it is to compute.
        calibration: frames of the training, from which int8 takes its scales.
        verification: frames that were not trained on.
        track: hands numbers through and shows progress.
        recipes: ways to int8, from the fastest on.

    Raises:
        ModelError: every way misses the bound; names the figures. Or the extra `onnx` is not installed.
    """
    eager = extract_all(network, cast("FeatureEngine", network), verification, track, "eager torch")
    attempts: list[Attempt] = []
    for recipe in (None,) if runtime == "fp32" else recipes:
        if recipe is None:
            name, model = _FP32, cast("bytes", build_graph(network).SerializeToString())
        else:
            rows = track([int(row) for row in calibration.rows], "calibrating")
            name = recipe.name
            model = quantise(network, recipe, (calibration.standardised(row, network) for row in rows))
        attempts.append(Attempt(name, _verify(network, model, verification, eager, track)))
        # Written so that a difference that is not a number misses the bound.
        if attempts[-1].agreement.largest <= BOUNDS[runtime]:
            return Export(model, tuple(attempts))
    figures = "; ".join(f"{attempt.recipe}: {attempt.agreement.largest:.4f}" for attempt in attempts)
    raise ModelError(
        f"the {runtime} export is refused: its scores differ from eager torch by up to ({figures}) points on "
        f"{len(verification.rows)} frames, {BOUNDS[runtime]:g} are allowed; nothing is written, "
        "the scorer runs as before"
    )


def _verify(network: ScoringNetwork, model: bytes, frames: FrameSubset, eager: Tensor, track: Track) -> Agreement:
    exported = extract_all(network, OnnxEngine(model), frames, track, "exported")
    return compare(network, frames, eager, exported)
