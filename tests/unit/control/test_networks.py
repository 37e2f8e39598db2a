"""Actor and critic: sizes, bounds, and what travels with the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from semd.control.actor_weights import actor_bytes, load_actor
from semd.control.networks import Actor, Critic
from semd.control.policy import ActorPolicy
from semd.errors import ModelError


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sizes(network: Actor | Critic) -> list[tuple[int, int]]:
    return [(layer.in_features, layer.out_features) for layer in network.layers if isinstance(layer, nn.Linear)]


def test_layers_are_the_papers() -> None:
    hidden = [(256, 512), (512, 512), (512, 512), (512, 512), (512, 256)]
    assert sizes(Actor(4, 0.2, generator())) == [(40, 256), *hidden, (256, 3)]
    assert sizes(Critic(4, 0.2, generator())) == [(43, 256), *hidden, (256, 1)]
    relus = [layer for layer in Actor(4, 0.2, generator()).layers if isinstance(layer, nn.ReLU)]
    assert len(relus) == 6


def test_no_state_makes_a_step_beyond_the_bound() -> None:
    actor = Actor(2, 0.15, generator())
    wild = 1e4 * torch.randn(64, 20, generator=generator(2))
    steps = actor(wild).detach()
    assert steps.abs().max() <= 0.3 + 1e-6
    assert steps.abs().max() > 0.29


def test_critic_gives_one_value_for_each_pair() -> None:
    critic = Critic(2, 0.15, generator())
    assert critic(torch.zeros(7, 20), torch.zeros(7, 3)).shape == (7,)


def test_weights_follow_from_the_generator_alone() -> None:
    torch.manual_seed(0)
    first = Actor(2, 0.2, generator(5)).state_dict()
    torch.manual_seed(99)
    again = Actor(2, 0.2, generator(5)).state_dict()
    other = Actor(2, 0.2, generator(6)).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])


def test_save_and_load_give_the_same_steps() -> None:
    actor = Actor(3, 0.25, generator())
    policy = ActorPolicy.load(actor_bytes(actor))
    assert (policy.n_frames, policy.rho) == (3, 0.25)
    states = np.random.default_rng(4).uniform(-1, 1, (16, 30)).astype(np.float32)
    steps = policy.batch(states)
    # Half precision on disk: eleven bits.
    assert np.abs(steps - actor(torch.from_numpy(states)).detach().numpy()).max() < 1e-3
    assert np.allclose(np.stack([policy(state) for state in states]), steps, atol=1e-6)
    again = ActorPolicy.load(actor_bytes(load_actor(actor_bytes(actor))))
    assert np.array_equal(again.batch(states), steps)


def damaged(change: str) -> bytes:
    tensors = load(actor_bytes(Actor(2, 0.2, generator())))
    if change == "narrow layer":
        tensors["layers.2.weight"] = tensors["layers.2.weight"][:, :-1].contiguous()
    elif change == "layer missing":
        del tensors["layers.4.bias"]
    elif change == "layer too many":
        tensors["layers.99.bias"] = torch.zeros(3)
    elif change == "no bound":
        del tensors["bound"]
    elif change == "bound of four":
        tensors["bound"] = torch.ones(4)
    elif change == "bound of zero":
        tensors["bound"] = torch.zeros(3)
    elif change == "frames as a float":
        tensors["n_frames"] = torch.tensor(2.0)
    elif change == "other frames":
        tensors["n_frames"] = torch.tensor(5)
    elif change == "not finite":
        tensors["layers.0.bias"][3] = torch.nan
    return save(tensors)


@pytest.mark.parametrize(
    "change",
    [
        "narrow layer",
        "layer missing",
        "layer too many",
        "no bound",
        "bound of four",
        "bound of zero",
        "frames as a float",
        "other frames",
        "not finite",
    ],
)
def test_weights_that_are_not_an_actors_are_refused(change: str) -> None:
    with pytest.raises(ModelError):
        ActorPolicy.load(damaged(change))


@pytest.mark.parametrize("data", [b"", b"\x80\x04pickle", actor_bytes(Actor(1, 0.2, generator()))[:-10]])
def test_bytes_that_are_no_safetensors_are_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match="safetensors"):
        ActorPolicy.load(data)
