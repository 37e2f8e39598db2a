"""The scoring machine's network (Fig. 3 of the paper).

ResNet18 with one input channel -> 512 features -> softmax -> magnification appended -> 513 -> three fully
connected layers with ReLU between them -> one score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from semd.scoring.torchvision_ops import import_torchvision_models

if TYPE_CHECKING:
    from torch import Tensor

FEATURES = 512
HIDDEN = (256, 64)
MAGNIFICATION_FULL_SCALE = 10000.0
_MIDDLE_SCORE = 5.5


class ScoringNetwork(nn.Module):
    """Image and magnification to score.

    A softmax over 512 features leaves numbers around 1/512, through which next to no gradient would reach the
    ResNet, and the magnification beside them would drown the image out. They are therefore multiplied by
    512. A constant in front of a linear layer is absorbed by its weights, so this is the paper's function,
    better scaled.
    """

    def __init__(self) -> None:
        super().__init__()
        # torchvision is typed loosely; its resnet18 is a Module.
        self.backbone: nn.Module = cast("Any", import_torchvision_models()).resnet18(weights=None)
        self.backbone.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.backbone.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.backbone.fc = nn.Identity()
        self.head = nn.Sequential(
            nn.Linear(FEATURES + 1, HIDDEN[0]),
            nn.ReLU(),
            nn.Linear(HIDDEN[0], HIDDEN[1]),
            nn.ReLU(),
            nn.Linear(HIDDEN[1], 1),
        )
        last = self.head[-1]
        if isinstance(last, nn.Linear):
            # Start from the middle of the scale instead of spending the first steps on getting there.
            nn.init.constant_(last.bias, _MIDDLE_SCORE)

    def forward(self, images: Tensor, magnification: Tensor) -> Tensor:
        """Score a batch.

        Args:
            images: standardised images, float (B, 1, H, W); H and W need not be 240 and 320.
            magnification: magnification as a number in 0..1, float (B,), see `magnification_input`.

        Returns:
            Scores, float32 (B,), on the experts' scale 0..10 but not clamped to it.
        """
        features = self.backbone(images).float()
        # The small head gains nothing from half precision, and scores near the threshold must not be rounded.
        with torch.autocast(images.device.type, enabled=False):
            shares = torch.softmax(features, dim=1) * FEATURES
            joined = torch.cat([shares, magnification.float().unsqueeze(1)], dim=1)
            return cast("Tensor", self.head(joined)).squeeze(1)


def magnification_input(magnification: float) -> float:
    """Magnification as the network takes it: divided by 10000, within 0..1."""
    return min(max(magnification / MAGNIFICATION_FULL_SCALE, 0.0), 1.0)


def lay_out_channels_last(network: ScoringNetwork) -> ScoringNetwork:
    """Store the network's weights in the memory order in which convolutions run fastest here; returns it."""
    # torch's own types do not know this form of `Module.to`.
    return cast("ScoringNetwork", cast("Any", network).to(memory_format=torch.channels_last))
