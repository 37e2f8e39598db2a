"""Quantisation of an fp32 graph to int8, with some of its first layers left in fp32."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from semd.scoring.runtime.extra import import_quantization
from semd.scoring.runtime.session import INPUT
from semd.training.export.graph import build_graph

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from semd.scoring.network import ScoringNetwork

_QUANTISED = ("Conv", "Relu", "Add", "MaxPool")


class Recipe(NamedTuple):
    """Layers that stay in fp32.

    Attributes:
        name: as the manifest says it.
        kept: beginnings of the names of the nodes that stay.
    """

    name: str
    kept: tuple[str, ...]


# From the fastest on. The first convolution never goes: it sees one channel, which int8 kernels cannot make use of,
# and most of the rounding that reaches the score comes from the first layers, where sharpness lies in faint detail.
RECIPES = (
    Recipe("int8 but the first convolution", ("conv1", "maxpool")),
    Recipe("int8 but the first convolution and the first block", ("conv1", "maxpool", "layer1.0")),
    Recipe("int8 but the first convolution and the first stage", ("conv1", "maxpool", "layer1")),
    Recipe("int8 but the first convolution and two stages", ("conv1", "maxpool", "layer1", "layer2")),
)


def quantise(network: ScoringNetwork, recipe: Recipe, frames: Iterable[NDArray[np.float32]]) -> bytes:
    """Write a network's convolutional part in int8.

    Weights are signed and have a scale for each channel; activations are unsigned and have the range that the
    calibration saw, from end to end: cutting its tails off, by percentile or entropy, cost more than it gained.

    Args:
        network: the network.
        recipe: what stays in fp32.
        frames: standardised frames to calibrate with, float32 (1, 1, H, W) each.

    Returns:
        The ONNX file.

    Raises:
        ModelError: the extra `onnx` is not installed.
    """
    tools = import_quantization()
    # Made anew each time: quantising changes the model it is given.
    model = build_graph(network)
    # The preparation it would warn about has nothing to do here: the graph is folded already.
    model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    with tempfile.TemporaryDirectory(prefix="semd-export-") as directory:
        path = Path(directory) / "model.onnx"
        tools.quantize_static(
            model,
            path,
            _CalibrationReader(iter(frames)),
            quant_format=tools.QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTISED),
            nodes_to_exclude=[node.name for node in model.graph.node if node.name.startswith(recipe.kept)],
            per_channel=True,
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
            calibrate_method=tools.CalibrationMethod.MinMax,
        )
        return path.read_bytes()


class _CalibrationReader:
    """Frames in the form that the calibration reads."""

    def __init__(self, frames: Iterator[NDArray[np.float32]]) -> None:
        self._frames = frames

    def get_next(self) -> dict[str, Any] | None:
        """The next frame; None after the last."""
        frame = next(self._frames, None)
        return None if frame is None else {INPUT: frame}
