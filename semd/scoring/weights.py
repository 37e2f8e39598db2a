"""Weights of a network as safetensors bytes and back; no pickle and no code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from semd.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn


def weights_to_bytes(
    state: Mapping[str, Tensor], *, half: bool = True, metadata: dict[str, str] | None = None
) -> bytes:
    """Serialise a state dictionary.

    Args:
        state: names and tensors.
        half: store floating-point tensors in half precision; they are computed with in single precision all
            the same.
        metadata: strings for the file's header.
    """
    tensors = {
        name: (value.detach().to(torch.float16) if half and _halves(name, value) else value.detach()).contiguous()
        for name, value in state.items()
    }
    return save(tensors, metadata)


def _halves(name: str, value: Tensor) -> bool:
    """Return True if a tensor loses nothing in half precision: weights do not, measured spreads would."""
    return value.is_floating_point() and not name.startswith("certainty.")


def read_metadata(weights: bytes) -> dict[str, str]:
    """Strings in the header of a safetensors file.

    Raises:
        ModelError: the bytes are no safetensors file.
    """
    size = int.from_bytes(weights[:8], "little")
    try:
        header = json.loads(weights[8 : 8 + size])
        return dict(header.get("__metadata__", {}))
    except (ValueError, AttributeError) as error:
        raise ModelError(f"not a safetensors file: {error}") from error


def load_weights(network: nn.Module, weights: bytes) -> None:
    """Load serialised weights into a network, in the network's own precision.

    Raises:
        ModelError: the bytes are no safetensors file, tensors are missing, too many or of another shape, or
            a value is not finite.
    """
    try:
        tensors = load(weights)
    except SafetensorError as error:
        raise ModelError(f"not a safetensors file: {error}") from error
    wanted = network.state_dict()
    missing, unknown = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or unknown:
        raise ModelError(f"the weights are of another network: missing {missing[:3]}, unknown {unknown[:3]}")
    for name, value in tensors.items():
        if value.shape != wanted[name].shape:
            raise ModelError(f"{name} is {tuple(value.shape)} in the file, {tuple(wanted[name].shape)} in the network")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(f"{name} holds values that are not finite")
    network.load_state_dict({name: value.to(wanted[name].dtype) for name, value in tensors.items()})
