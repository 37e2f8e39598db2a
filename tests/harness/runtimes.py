"""A small random network and a models folder that holds it, for the tests of the exported runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from semd.model_store import default_directory, load_model, store_model
from semd.scoring.network import Architecture, ScoringNetwork
from semd.scoring.stored import network_to_bytes
from semd.training.export.agreement import FrameSubset

SMALL = Architecture(height_px=240, width_px=320, replicas=2)


def random_network(form: Architecture = SMALL, seed: int = 3) -> ScoringNetwork:
    """As after a training: every normalisation has statistics, gains and shifts of its own."""
    torch.manual_seed(seed)
    network = ScoringNetwork(form).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.2)
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, 0.0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network


def make_touchy(network: ScoringNetwork, gain: float) -> ScoringNetwork:
    """Let the score follow every feature `gain` times as much."""
    with torch.no_grad():
        network.layers[0].weight.mul_(gain)  # type: ignore[union-attr, operator]
    return network


def some_frames(count: int, seed: int = 1) -> FrameSubset:
    """Smooth random pictures of different contrast and brightness, 240x320."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0.0, 255.0, (count, 30, 40)).repeat(8, axis=1).repeat(8, axis=2)
    images = np.clip(coarse + rng.normal(0.0, 8.0, coarse.shape), 0.0, 255.0).astype(np.uint8)
    return FrameSubset(images, np.linspace(500.0, 1e4, count).astype(np.float32), np.arange(count, dtype=np.int64))


def models_folder(directory: Path, network: ScoringNetwork) -> Path:
    """The shipped actor beside this scorer."""
    actor = load_model(default_directory(), "actor")
    store_model(directory, "actor", actor.data, actor.entry.model_dump(exclude={"sha256"}))
    entry = {"file": "scorer.safetensors", "input": "i", "output": "o", "training": {}, "figures": {}}
    store_model(directory, "scorer", network_to_bytes(network), entry)
    return directory
