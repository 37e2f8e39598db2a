"""Manifest entry of a trained control machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from semd.training.control.control_settings import ControlTrainingConfig
from semd.training.control.control_training import ControlTrainingResult


def actor_entry(config: ControlTrainingConfig, result: ControlTrainingResult, preset: str) -> dict[str, Any]:
    """Make the manifest's entry, without the SHA-256 that the store adds."""
    bound = 2.0 * config.rho
    return {
        "file": "actor.safetensors",
        "input": f"state (3) float32 (10 N,), N = {config.n_frames}; features (2) in the run's window, about -1..1",
        "output": f"steps of WD, brightness, contrast in the window, each within +-{bound:g} = rho (U - L), (5)",
        "training": {
            "command": f"semd train control --run RUN --preset {preset} --seed {config.seed}",
            "data": "the feature-level twin of the simulator, semd.simulator.twin",
            "frames": result.frames,
            "updates": result.updates,
            "settings": asdict(config),
        },
        "figures": {"on_the_twin": asdict(result.best), "command": "semd evaluate control"},
    }
