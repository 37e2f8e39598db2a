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
    fields, frames, seed = (_spec(data)[key] for key in ("fields", "frames_per_field", "seed"))
    build = f"semd dataset build DATA --fields {fields} --frames-per-field {frames} --seed {seed}"
    train = f"semd train score --data DATA --run RUN --preset {preset} --seed {config.seed}"
    return {
        "file": "scorer.safetensors",
        "input": "grey frame uint8 (480, 640), centre crop 240x320; magnification / 10000 in [0, 1]",
        "output": "score 0..10",
        "training": {
            "commands": [build, f"{train} --threads {config.threads} --processes {processes}"],
            "data": _spec(data),
            "settings": asdict(config),
        },
        "figures": {"command": "semd evaluate score --data DATA", **asdict(report)},
    }


def _spec(data: Path) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads((data / SPEC_NAME).read_text(encoding="utf-8"))
    return spec
