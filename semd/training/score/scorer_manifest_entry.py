"""Manifest entry of a trained scoring machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from semd.datasets.dataset import SPEC_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from semd.training.score.score_settings import ScoreTrainingConfig
    from semd.training.score.validation import ScoringReport


def scorer_entry(
    config: ScoreTrainingConfig,
    data: Sequence[Path],
    report: ScoringReport,
    preset: str,
    processes: int,
    validation_dir: Path | None = None,
) -> dict[str, Any]:
    """Make the manifest's entry, without the SHA-256 that the store adds."""
    specs = [_spec(directory) for directory in data]
    builds = [_build(spec, name) for spec, name in zip(specs, _names(len(data)), strict=True)]
    named = " ".join(f"--data {name}" for name in _names(len(data)))
    train = f"semd train score {named} --run RUN --preset {preset} --seed {config.seed}"
    if config.start_sha256:
        train += f" --start WEIGHTS (SHA-256 {config.start_sha256})"
    if validation_dir is not None:
        builds.append(_build(_spec(validation_dir), "ASIDE"))
        train += " --aside ASIDE"
    return {
        "file": "scorer.safetensors",
        "input": "grey frame uint8 from 240x320 up, its middle 480x640; magnification in x",
        "output": "score 0..10, its standard deviation, and whether the frame is unlike those of the training",
        "training": {
            "commands": [*builds, f"{train} --threads {config.threads} --processes {processes}"],
            "data": specs[0] if len(specs) == 1 else specs,
            "settings": asdict(config),
        },
        "figures": {"command": "semd evaluate score --data DATA", **asdict(report)},
    }


def _names(count: int) -> list[str]:
    """Names of the datasets in the commands."""
    return ["DATA"] if count == 1 else [f"DATA{number}" for number in range(1, count + 1)]


def _build(spec: dict[str, Any], name: str) -> str:
    """The command that makes a dataset."""
    if "frames_per_field" not in spec:
        return f"semd dataset import DIR --table TABLE --out {name}"
    shares = ("assorted_share", "beads_share", "test_share", "empty_share", "far_share", "smoothed_share")
    options = ("frames", "frames_per_field", *shares, "label_noise", "seed")
    options_text = []
    if "magnifications" in spec:
        options_text.append("--magnifications " + ",".join(f"{each:.15g}" for each in spec["magnifications"]))
    # Older datasets lack what did not exist then.
    options_text += [f"--{key.replace('_', '-')} {spec[key]}" for key in options if key in spec]
    return " ".join([f"semd dataset build {name}", *options_text])


def _spec(data: Path) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads((data / SPEC_NAME).read_text(encoding="utf-8"))
    return spec
