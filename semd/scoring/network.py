"""The scoring machine's network (Fig. 3 of the paper) with replica heads.

ResNet18 -> 512 features -> softmax -> magnification appended -> 513 -> three fully connected layers with ReLU
between them -> one score. Ours differs in three points; `PAPER` is the published form:

1. Pixels are folded 2x2 into four channels, so that the whole 480x640 frame costs what its 240x320 centre
   costs the paper's network, and nothing is averaged away.
2. Magnification enters as its logarithm: focus is judged by ratios, and x500 and x1000 lie as far apart as
   x5000 and x10000.
3. The head exists in several replicas that learn from resampled fields; their mean is the score, and what they
   expect to be wrong by, together with how far they disagree, its standard deviation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import torch
from torch import nn
from torch.nn.functional import relu

from semd.scoring.certainty import Certainty
from semd.scoring.torchvision_ops import import_torchvision_models

if TYPE_CHECKING:
    from torch import Tensor

Backbone = Literal["resnet18", "resnet50"]
Magnification = Literal["log", "linear", "none"]

HIDDEN = (256, 64)
_MIDDLE_SCORE = 5.5
_FULL_SCALE_MAGNIFICATION = 10000.0
_LOG_RANGE = (100.0, 100000.0)
# Beside 512 features of about 1, a number within 0..1 would be slow to learn from.
_MAGNIFICATION_GAIN = 8.0
_LOG_SIGMA_RANGE = (-4.0, 2.0)


@dataclass(frozen=True, slots=True)
class Architecture:
    """The network's form; it travels in the header of its weights.

    Attributes:
        backbone: the convolutional part.
        height_px: height of what is looked at in the middle of a frame; less where the frame is smaller.
        width_px: width of the same.
        fold: side of the square of pixels folded into channels; 1 leaves the picture alone.
        magnification: how the head is told the magnification, or `none`.
        replicas: number of heads.
    """

    backbone: Backbone = "resnet18"
    height_px: int = 480
    width_px: int = 640
    fold: int = 2
    magnification: Magnification = "log"
    replicas: int = 8


OURS = Architecture()
PAPER = Architecture(height_px=240, width_px=320, fold=1, magnification="linear", replicas=1)


class Replicas(NamedTuple):
    """What the heads say of a batch.

    Attributes:
        scores: float32 (B, K), not clamped.
        log_sigma: logarithm of the error each head expects of itself, float32 (B, K).
    """

    scores: Tensor
    log_sigma: Tensor


class _ReplicaLayer(nn.Module):
    """K independent fully connected layers, (B, K, inputs) to (B, K, outputs)."""

    def __init__(self, replicas: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(replicas, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(replicas, outputs).uniform_(-bound, bound))

    def forward(self, values: Tensor) -> Tensor:
        return torch.einsum("bki,kio->bko", values, self.weight) + self.bias


class ScoringNetwork(nn.Module):
    """Image and magnification to scores.

    A softmax over 512 features leaves numbers around 1/512, through which next to no gradient would reach the
    ResNet, and the magnification beside them would drown the image out. They are therefore multiplied by
    their number. A constant in front of a linear layer is absorbed by its weights, so this is the paper's
    function, better scaled.
    """

    def __init__(self, architecture: Architecture = OURS) -> None:
        super().__init__()
        self.architecture = form = architecture
        self.fold = nn.PixelUnshuffle(form.fold)
        # torchvision is typed loosely; its networks are Modules.
        resnet = getattr(cast("Any", import_torchvision_models()), form.backbone)(weights=None)
        self.features: int = resnet.fc.in_features
        resnet.conv1 = nn.Conv2d(form.fold**2, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(resnet.conv1.weight, mode="fan_out", nonlinearity="relu")
        resnet.fc = nn.Identity()
        self.backbone: nn.Module = resnet
        self.layers = nn.ModuleList(
            [
                _ReplicaLayer(form.replicas, self.features + 1, HIDDEN[0]),
                _ReplicaLayer(form.replicas, HIDDEN[0], HIDDEN[1]),
                _ReplicaLayer(form.replicas, HIDDEN[1], 1),
            ]
        )
        self.expected_error = _ReplicaLayer(form.replicas, HIDDEN[1], 1)
        self.certainty = Certainty(self.features)
        # Start from the middle of the scale instead of spending the first steps on getting there.
        nn.init.constant_(cast("_ReplicaLayer", self.layers[-1]).bias, _MIDDLE_SCORE)

    def extract(self, images: Tensor) -> Tensor:
        """Features of standardised images: float (B, 1, H, W), H and W even, to float32 (B, features)."""
        return cast("Tensor", self.backbone(self.fold(images))).float()

    def judge(self, features: Tensor, magnification: Tensor) -> Replicas:
        """Features, float32 (B, features), and magnification in x, float (B,), to what the heads say."""
        # The small heads gain nothing from half precision, and scores near the threshold must not be rounded.
        with torch.autocast(features.device.type, enabled=False):
            shares = torch.softmax(features, dim=1) * self.features
            told = _MAGNIFICATION_GAIN * self._normalised(magnification.float()).unsqueeze(1)
            joined = torch.cat([shares, told], dim=1).unsqueeze(1).expand(-1, self.architecture.replicas, -1)
            hidden = joined
            for layer in self.layers[:-1]:
                hidden = relu(layer(hidden))
            scores = self.layers[-1](hidden)
            # Guessing its error must not change what the network sees: no gradient goes back from here.
            log_sigma = self.expected_error(hidden.detach()).clamp(*_LOG_SIGMA_RANGE)
            return Replicas(scores.squeeze(-1), log_sigma.squeeze(-1))

    def forward(self, images: Tensor, magnification: Tensor) -> Replicas:
        """Judge a batch.

        Args:
            images: standardised images, float (B, 1, H, W); any even H and W.
            magnification: magnification in x, float (B,).
        """
        return self.judge(self.extract(images), magnification)

    def _normalised(self, magnification: Tensor) -> Tensor:
        """Magnification as a number in 0..1."""
        if self.architecture.magnification == "none":
            return torch.zeros_like(magnification)
        if self.architecture.magnification == "linear":
            return (magnification / _FULL_SCALE_MAGNIFICATION).clamp(0.0, 1.0)
        low, high = (math.log(limit) for limit in _LOG_RANGE)
        return ((magnification.clamp_min(1.0).log() - low) / (high - low)).clamp(0.0, 1.0)


def lay_out_channels_last(network: ScoringNetwork) -> ScoringNetwork:
    """Store the network's weights in the memory order in which convolutions run fastest here; returns it."""
    # torch's own types do not know this form of `Module.to`.
    return cast("ScoringNetwork", cast("Any", network).to(memory_format=torch.channels_last))
