"""What the manifest says of a trained scoring machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from semd.scoring.dataset import SPEC_NAME
from semd.scoring.evaluation import ScoringReport
from semd.scoring.training_config import TrainingConfig


def scorer_entry(
    config: TrainingConfig, data: Path, report: ScoringReport, preset: str, processes: int
) -> dict[str, Any]:
    """The manifest's entry, but the SHA-256 that the store adds."""
    spec = _spec(data)
    build = "semd dataset import DIR --table TABLE --out DATA"
    if "frames_per_field" in spec:
        options = ("frames", "frames_per_field", "assorted_share", "test_share", "label_noise", "seed")
        build = " ".join(["semd dataset build DATA", *(f"--{key.replace('_', '-')} {spec[key]}" for key in options)])
    train = f"semd train score --data DATA --run RUN --preset {preset} --seed {config.seed}"
    if config.start_sha256:
        train += f" --start WEIGHTS (SHA-256 {config.start_sha256})"
    return {
        "file": "scorer.safetensors",
        "input": "grey frame uint8 from 240x320 up, its middle 480x640; magnification in x",
        "output": "score 0..10, its standard deviation, and whether the frame is unlike those of the training",
        "training": {
            "commands": [build, f"{train} --threads {config.threads} --processes {processes}"],
            "data": spec,
            "settings": asdict(config),
        },
        "figures": {"command": "semd evaluate score --data DATA", **asdict(report)},
    }


def _spec(data: Path) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads((data / SPEC_NAME).read_text(encoding="utf-8"))
    return spec
