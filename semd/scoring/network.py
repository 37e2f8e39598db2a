"""The scoring machine's network (Fig. 3 of the paper) with replica heads.

ResNet18 -> 512 features -> softmax -> magnification appended -> 513 -> three fully connected layers with ReLU
between them -> one score. Ours differs in four points; `PAPER` is the published form:

1. Pixels are folded 2x2 into four channels, so that the whole 480x640 frame costs what its 240x320 centre
   costs the paper's network, and nothing is averaged away.
2. Magnification enters as its logarithm: focus is judged by ratios, and x500 and x1000 lie as far apart as
   x5000 and x10000.
3. The head exists in several replicas that learn from resampled fields; their mean is the score, and what they
   expect to be wrong by, together with how far they disagree, its standard deviation.
4. The heads also take features of the frame's power spectrum, in which blur leaves rings: their errors are largely
   independent of the ResNet's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast

import torch
from torch import nn
from torch.nn.functional import relu

from semd.scoring.spectrum import log_spectrum, mirrored
from semd.scoring.spectrum_reader import SPECTRUM_FEATURES, SpectrumReader
from semd.scoring.torchvision_ops import import_torchvision_models
from semd.scoring.uncertainty import UncertaintyCalibration

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
        magnification: encoding of the magnification for the heads, or `none`.
        replicas: number of heads.
        spectrum: True where the heads also take features of the power spectrum.
    """

    backbone: Backbone = "resnet18"
    height_px: int = 480
    width_px: int = 640
    fold: int = 2
    magnification: Magnification = "log"
    replicas: int = 8
    spectrum: bool = False


OURS = Architecture(spectrum=True)
PAPER = Architecture(height_px=240, width_px=320, fold=1, magnification="linear", replicas=1)


class HeadOutputs(NamedTuple):
    """Outputs of the replica heads for a batch.

    Attributes:
        scores: float32 (B, K), not clamped.
        log_sigma: logarithm of the error each head expects of itself, float32 (B, K).
    """

    scores: Tensor
    log_sigma: Tensor


class FeatureEngine(Protocol):
    """Engine of the network's convolutional part: torch itself, or an exported model."""

    def extract(self, images: Tensor) -> Tensor:
        """Standardised frames, float32 (B, 1, H, W), to their features, float32 (B, 512)."""


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
        self.spectrum = SpectrumReader() if form.spectrum else None
        n_inputs = self.features + 1 + (SPECTRUM_FEATURES if form.spectrum else 0)
        self.layers = nn.ModuleList(
            [
                _ReplicaLayer(form.replicas, n_inputs, HIDDEN[0]),
                _ReplicaLayer(form.replicas, HIDDEN[0], HIDDEN[1]),
                _ReplicaLayer(form.replicas, HIDDEN[1], 1),
            ]
        )
        self.expected_error = _ReplicaLayer(form.replicas, HIDDEN[1], 1)
        self.certainty = UncertaintyCalibration(self.features)
        # Start from the middle of the scale instead of spending the first steps on getting there.
        nn.init.constant_(cast("_ReplicaLayer", self.layers[-1]).bias, _MIDDLE_SCORE)

    def extract(self, images: Tensor) -> Tensor:
        """Features of standardised images, float (B, 1, H, W), H and W even: float32 (B, 512)."""
        return cast("Tensor", self.backbone(self.fold(images))).float()

    def extract_features(self, images: Tensor, engine: FeatureEngine | None = None) -> Tensor:
        """Extract the inputs of the heads: the features of the convolutions, followed by the log power spectrum.

        Args:
            images: standardised images, float32 (B, 1, H, W), H and W even; from 128 up where the spectrum is read.
            engine: what runs the convolutions; None for the network itself.

        Returns:
            float32 (B, 512), or (B, 512 + SPECTRUM_VALUES).
        """
        features = self.extract(images) if engine is None else engine.extract(images)
        return features if self.spectrum is None else torch.cat([features, log_spectrum(images)], dim=1)

    def mirrored(self, features: Tensor) -> Tensor:
        """Return features with the spectrum of the mirrored frame; those of the convolutions stay."""
        return torch.cat([features[:, : self.features], mirrored(features[:, self.features :])], dim=1)

    def is_out_of_distribution(self, features: Tensor) -> Tensor:
        """True where a frame is out of distribution, by the convolutions' features: bool (B,)."""
        return self.certainty.is_out_of_distribution(features[:, : self.features])

    def score_features(self, features: Tensor, magnification: Tensor) -> HeadOutputs:
        """Map features, as `extract_features` gives them, and magnification in x, float (B,), to the heads' outputs."""
        # The small heads gain nothing from half precision, and scores near the threshold must not be rounded.
        with torch.autocast(features.device.type, enabled=False):
            shares = torch.softmax(features[:, : self.features], dim=1) * self.features
            inputs = [shares, _MAGNIFICATION_GAIN * self._normalised(magnification.float()).unsqueeze(1)]
            if self.spectrum is not None:
                inputs.append(self.spectrum(features[:, self.features :]))
            joined = torch.cat(inputs, dim=1).unsqueeze(1).expand(-1, self.architecture.replicas, -1)
            hidden = joined
            for layer in self.layers[:-1]:
                hidden = relu(layer(hidden))
            scores = self.layers[-1](hidden)
            # The error estimate must not influence the features: stop the gradient here.
            log_sigma = self.expected_error(hidden.detach()).clamp(*_LOG_SIGMA_RANGE)
            return HeadOutputs(scores.squeeze(-1), log_sigma.squeeze(-1))

    def forward(self, images: Tensor, magnification: Tensor) -> HeadOutputs:
        """Score a batch of images.

        Args:
            images: standardised images, float (B, 1, H, W); any even H and W.
            magnification: magnification in x, float (B,).
        """
        return self.score_features(self.extract_features(images), magnification)

    def _normalised(self, magnification: Tensor) -> Tensor:
        """Magnification as a number in 0..1."""
        if self.architecture.magnification == "none":
            return torch.zeros_like(magnification)
        if self.architecture.magnification == "linear":
            return (magnification / _FULL_SCALE_MAGNIFICATION).clamp(0.0, 1.0)
        low, high = (math.log(limit) for limit in _LOG_RANGE)
        return ((magnification.clamp_min(1.0).log() - low) / (high - low)).clamp(0.0, 1.0)


def with_spectrum(network: ScoringNetwork) -> ScoringNetwork:
    """Return a network that also reads the spectrum and initially gives the same outputs.

    The heads' weights for the spectrum features start at 0.
    """
    grown = ScoringNetwork(replace(network.architecture, spectrum=True))
    kept = network.state_dict()
    first = "layers.0.weight"
    kept[first] = nn.functional.pad(kept[first], (0, 0, 0, SPECTRUM_FEATURES))
    new = {name: value for name, value in grown.state_dict().items() if name not in kept}
    grown.load_state_dict(kept | new)
    return grown


def lay_out_channels_last(network: ScoringNetwork) -> ScoringNetwork:
    """Store the network's weights in the memory order in which convolutions run fastest here; returns it."""
    # torch's own types do not know this form of `Module.to`.
    return cast("ScoringNetwork", cast("Any", network).to(memory_format=torch.channels_last))
