"""The network's convolutional part as an ONNX graph, ready for another engine.

The graph is written out block by block instead of by a tracer: batch normalisation is folded into the
convolutions, and so is the folding of pixels. A convolution of side k over 2x2-folded pixels is one of side 2k with
twice the stride over the pixels themselves, so that an engine need not move them about first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch

from semd.scoring.runtime.extra import import_onnx
from semd.scoring.runtime.session import INPUT, OUTPUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import nn

    from semd.scoring.network import ScoringNetwork

# Understood by every engine of the last years; newer ones add nothing that is used here.
_OPSET = 17
_IR_VERSION = 8
_STAGES = ("layer1", "layer2", "layer3", "layer4")


class FoldedConvolution(NamedTuple):
    """A convolution with the normalisation after it and the pixel folding before it put into its weights.

    Attributes:
        weight: float32 (outputs, inputs, side, side).
        bias: float32 (outputs,).
        stride: in pixels.
        padding: in pixels, on every side.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    stride: int
    padding: int


def build_graph(network: ScoringNetwork) -> Any:
    """Write `ScoringNetwork.extract` as an ONNX model.

    Input `image`: float32 (B, 1, H, W), standardised; output `features`: float32 (B, features). Nodes are named after
    the network's modules, such as `layer1.0.conv1`.

    Raises:
        ModelError: the extra `onnx` is not installed.
    """
    onnx = import_onnx()
    writer = _Writer(onnx)
    backbone = cast("Any", network.backbone)
    stem = _unfold_pixels(_fold(backbone.conv1, backbone.bn1), network.architecture.fold)
    flowing = writer.convolve("conv1", INPUT, stem, relu=True)
    pool = backbone.maxpool
    flowing = writer.add(
        "MaxPool",
        "maxpool",
        [flowing],
        kernel_shape=[pool.kernel_size] * 2,
        strides=[pool.stride] * 2,
        pads=[pool.padding] * 4,
    )
    for stage in _STAGES:
        for number, block in enumerate(getattr(backbone, stage)):
            flowing = _write_block(writer, f"{stage}.{number}", flowing, block)
    flowing = writer.add("GlobalAveragePool", "avgpool", [flowing])
    writer.add("Flatten", "flatten", [flowing], output=OUTPUT, axis=1)
    return writer.model(network.features)


def _write_block(writer: _Writer, name: str, flowing: str, block: nn.Module) -> str:
    """One residual block, basic or bottleneck; returns its output's name."""
    pairs = list(_pairs(block))
    inner = flowing
    for number, (convolution, normalisation) in enumerate(pairs, start=1):
        folded = _fold(convolution, normalisation)
        inner = writer.convolve(f"{name}.conv{number}", inner, folded, relu=number < len(pairs))
    past = flowing
    if cast("Any", block).downsample is not None:
        past = writer.convolve(f"{name}.downsample", flowing, _fold(*cast("Any", block).downsample), relu=False)
    summed = writer.add("Add", f"{name}.add", [inner, past])
    return writer.add("Relu", f"{name}.relu", [summed])


def _pairs(block: nn.Module) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    number = 1
    while hasattr(block, f"conv{number}"):
        yield getattr(block, f"conv{number}"), getattr(block, f"bn{number}")
        number += 1


@torch.no_grad()
def _fold(convolution: nn.Conv2d, normalisation: nn.BatchNorm2d) -> FoldedConvolution:
    """A convolution without bias and the normalisation behind it as one; computed in double precision."""
    mean, variance = cast("torch.Tensor", normalisation.running_mean), cast("torch.Tensor", normalisation.running_var)
    gain = normalisation.weight.double() / torch.sqrt(variance.double() + normalisation.eps)
    weight = convolution.weight.double() * gain[:, None, None, None]
    bias = normalisation.bias.double() - mean.double() * gain
    return FoldedConvolution(
        weight.float().contiguous().cpu().numpy(),
        bias.float().cpu().numpy(),
        stride=convolution.stride[0],
        padding=cast("int", convolution.padding[0]),
    )


def _unfold_pixels(folded: FoldedConvolution, fold: int) -> FoldedConvolution:
    """The same convolution over unfolded pixels, of which `fold` x `fold` had been put into channels."""
    outputs, _, side, _ = folded.weight.shape
    # Channel fold * i + j holds row i and column j of each square.
    squares = folded.weight.reshape(outputs, fold, fold, side, side)
    weight = np.ascontiguousarray(squares.transpose(0, 3, 1, 4, 2)).reshape(outputs, 1, fold * side, fold * side)
    return FoldedConvolution(weight, folded.bias, folded.stride * fold, folded.padding * fold)


class _Writer:
    """Collects nodes and constants."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def add(self, kind: str, name: str, inputs: list[str], output: str | None = None, **attributes: object) -> str:
        """Add a node; returns the name of its output."""
        output = output or f"{name}.out"
        self._nodes.append(self._onnx.helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def convolve(self, name: str, flowing: str, folded: FoldedConvolution, *, relu: bool) -> str:
        """Add a convolution, with a ReLU behind it if asked for; returns the name of its output."""
        weight, bias = f"{name}.weight", f"{name}.bias"
        self._constants.append(self._onnx.numpy_helper.from_array(folded.weight, weight))
        self._constants.append(self._onnx.numpy_helper.from_array(folded.bias, bias))
        side = folded.weight.shape[-1]
        out = self.add(
            "Conv",
            name,
            [flowing, weight, bias],
            kernel_shape=[side, side],
            strides=[folded.stride] * 2,
            pads=[folded.padding] * 4,
        )
        return self.add("Relu", f"{name}.relu", [out]) if relu else out

    def model(self, features: int) -> Any:
        """The checked model."""
        helper, kind = self._onnx.helper, self._onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self._nodes,
            "semd-scorer",
            [helper.make_tensor_value_info(INPUT, kind, ["batch", 1, "height", "width"])],
            [helper.make_tensor_value_info(OUTPUT, kind, ["batch", features])],
            self._constants,
        )
        model = helper.make_model(
            graph, producer_name="semd", ir_version=_IR_VERSION, opset_imports=[helper.make_opsetid("", _OPSET)]
        )
        self._onnx.checker.check_model(model, full_check=True)
        return model
