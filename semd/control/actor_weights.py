"""The actor's weights as bytes: safetensors, half precision on disk, single in use."""

from __future__ import annotations

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from semd.control.networks import Actor
from semd.errors import ModelError

_BUFFERS = ("bound", "n_frames")


def actor_bytes(actor: Actor) -> bytes:
    """The actor as a safetensors file: weights float16, `bound` float32 (3,) and `n_frames` int64."""
    tensors = {
        name: (value if name in _BUFFERS else value.half()).contiguous() for name, value in actor.state_dict().items()
    }
    return save(tensors, metadata={"semd": "actor"})


def load_actor(data: bytes) -> Actor:
    """Build the actor that `actor_bytes` wrote.

    Raises:
        ModelError: not a safetensors file, tensors missing or left over, wrong shapes, or a value not finite.
    """
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ModelError(f"the actor's weights are not a safetensors file: {error}") from error
    missing = [name for name in _BUFFERS if name not in tensors]
    if missing:
        raise ModelError(f"the actor's weights lack {', '.join(missing)}: not an actor of semd's")
    n_frames, bound = tensors["n_frames"], tensors["bound"]
    if n_frames.shape != () or n_frames.dtype != torch.int64 or not 1 <= int(n_frames) <= 64:
        raise ModelError("the actor's n_frames must be one whole number, 1..64")
    if bound.shape != (3,) or not bool(((bound > 0.0) & (bound <= 2.0)).all()):
        raise ModelError("the actor's bound must be three numbers in (0, 2]")
    actor = Actor(int(n_frames), float(bound[0]) / 2.0, torch.Generator())
    try:
        actor.load_state_dict({name: value.to(actor.state_dict()[name].dtype) for name, value in tensors.items()})
    except (RuntimeError, KeyError) as error:
        raise ModelError(f"the actor's weights do not fit its layers: {str(error).splitlines()[-1]}") from error
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise ModelError("the actor's weights hold a value that is not finite")
    return actor.eval().requires_grad_(False)
