"""Actor and critic: the paper's layer sizes, and the bound of equation (5) as a buffer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from semd.domain.axes import AXES
from semd.domain.state import FEATURES_PER_FRAME

HIDDEN = (256, 512, 512, 512, 512, 256)
"""Units of the hidden layers of both networks (the paper, section on DDPG; ReLU after each)."""

N_AXES = len(AXES)


class Actor(nn.Module):
    """mu(s): the state of (3) to a step of each axis, bounded as in (5).

    10 N inputs, hidden layers `HIDDEN` with ReLU, 3 outputs, tanh times the bound. On the networks' scale
    U - L is 2 (`domain.limits.Window`), so the bound is 2 rho.

    Attributes:
        bound: float32 (3,), largest step of each axis on the networks' scale.
        n_frames: int64 scalar, N.
    """

    bound: Tensor
    n_frames: Tensor

    def __init__(self, n_frames: int, rho: float, generator: torch.Generator) -> None:
        """Build with weights drawn from `generator`."""
        super().__init__()
        self.layers = _stack((FEATURES_PER_FRAME * n_frames, *HIDDEN, N_AXES), generator)
        self.register_buffer("bound", torch.full((N_AXES,), 2.0 * rho))
        self.register_buffer("n_frames", torch.tensor(n_frames))

    def forward(self, state: Tensor) -> Tensor:
        """States float32 (B, 10 N) to steps float32 (B, 3), |step| <= bound."""
        return torch.tanh(self.layers(state)) * self.bound


class Critic(nn.Module):
    """Q(s, a): state and step to the discounted reward expected, (B, 10 N + 3) -> (B,).

    The step enters as a fraction of its bound: inputs of like size, whatever rho is.
    """

    bound: Tensor

    def __init__(self, n_frames: int, rho: float, generator: torch.Generator) -> None:
        """Build with weights drawn from `generator`."""
        super().__init__()
        self.layers = _stack((FEATURES_PER_FRAME * n_frames + N_AXES, *HIDDEN, 1), generator)
        self.register_buffer("bound", torch.full((N_AXES,), 2.0 * rho))

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        """States float32 (B, 10 N) and steps float32 (B, 3) to values float32 (B,)."""
        value: Tensor = self.layers(torch.cat((state, action / self.bound), dim=1))
        return value.squeeze(1)


def _stack(sizes: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    """Linear layers with ReLU between them, uniform in +-1/sqrt(fan in)."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        linear: nn.Linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)  # type: ignore[no-untyped-call]
        reach = 1.0 / math.sqrt(fan_in)
        nn.init.uniform_(linear.weight, -reach, reach, generator=generator)
        nn.init.uniform_(linear.bias, -reach, reach, generator=generator)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])
