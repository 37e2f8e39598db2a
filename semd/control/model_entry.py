"""The manifest's entry of an actor: what goes in, what comes out, how it was trained, what was measured."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from semd.control.settings import Preset, TrainingConfig
from semd.control.training import TrainingResult
from semd.domain.state import FEATURES_PER_FRAME

ACTOR_FILE = "actor.safetensors"


def actor_entry(config: TrainingConfig, result: TrainingResult, preset: Preset | str) -> dict[str, Any]:
    """Fields for `model_store.store_model`, all but the digest.

    Args:
        config: the settings of the training.
        result: what it left; the entry is for the weights in `best_path`.
        preset: the settings' name.
    """
    return {
        "file": ACTOR_FILE,
        "input": (
            f"state of equation (3): float32 ({FEATURES_PER_FRAME * config.n_frames},), the ten features of "
            f"N = {config.n_frames} frames, oldest first, each about -1..1 (semd.domain.state)"
        ),
        "output": (
            "step of WD, brightness and contrast: float32 (3,), on the scale where U - L is 2, "
            f"within 2 rho = {2.0 * config.rho:g}; the bound and N are in the file"
        ),
        "training": {
            "command": f"semd train control --preset {preset} --seed {config.seed} --run RUN",
            "data": "simulated on the feature-level twin (semd.simulator.twin); no real frames",
            "frames": result.frames,
            "updates": result.updates,
            "episodes": result.episodes,
            "settings": asdict(config),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "figures": {"twin": asdict(result.best)},
    }
