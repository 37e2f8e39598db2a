"""`semd train control --from-records`, from a ledger to weights, comparison and manifest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from harness.records import three_frames, write_ledger
from typer.testing import CliRunner

from semd.cli import app
from semd.control.actor_weights import actor_bytes
from semd.control.networks import Actor
from semd.control.policy import ActorPolicy
from semd.errors import ConfigError, DatasetError, TrainingError
from semd.model_store import load_model
from semd.training.control import control_settings as settings
from semd.training.control import learning_from_records
from semd.training.control.actor_evaluation import ControlFigures

FIGURES = ControlFigures(100, 1.0, 1.0, 0.9, 5.0, 8.0, 9.5, 9.5)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(settings.DEFAULT, n_envs=8, warmup_frames=64, batch_size=8, evaluate_episodes=4, checkpoint_every=4)
    monkeypatch.setitem(settings.PRESETS, "default", small)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    write_ledger(tmp_path / "state", [*three_frames(), *three_frames()[:2]])
    return tmp_path / "state"


@pytest.fixture
def start(tmp_path: Path) -> Path:
    path = tmp_path / "start.safetensors"
    path.write_bytes(actor_bytes(Actor(3, 0.25, torch.Generator().manual_seed(1))))
    return path


def run(*words: object) -> tuple[int, dict, str]:
    result = CliRunner().invoke(app, ["train", "control", *map(str, words), "--json"], catch_exceptions=False)
    return result.exit_code, json.loads(result.stdout.splitlines()[-1]), result.stdout


def test_from_a_ledger_to_weights(state: Path, start: Path, tmp_path: Path) -> None:
    words = ("--from-records", state, "--start", start, "--run", tmp_path / "run", "--seed", 3)
    code, found, text = run(*words, "--frames", 128)
    assert code == 0
    assert found["records"] == {
        "frames": 5,
        "transitions": 3,
        "passed": 1,
        "skipped": {"ended": 1, "run-cut": 1},
    }
    assert (found["frames"], found["promoted"]) == (128, False)
    assert found["before"]["episodes"] == found["after"]["episodes"] == 16
    assert "3 transitions of 5 recorded frames" in text
    run_dir = tmp_path / "run"
    for name in ("curve.csv", "actor_best.safetensors", "actor_last.safetensors", "checkpoint", "comparison.json"):
        assert (run_dir / name).exists()
    # N and rho are the start's.
    trained = ActorPolicy.load((run_dir / "actor_best.safetensors").read_bytes())
    assert (trained.n_frames, trained.rho) == (3, 0.25)

    again = tmp_path / "again"
    run("--from-records", state, "--start", start, "--run", again, "--seed", 3, "--frames", 128)
    for name in ("curve.csv", "actor_last.safetensors", "comparison.json"):
        assert (again / name).read_bytes() == (run_dir / name).read_bytes()

    # The daemon goes on recording; what is resumed goes by what it began with.
    (state / "ledger.sqlite").unlink()
    code, longer, _ = run(*words, "--frames", 160, "--resume")
    assert (code, longer["frames"], longer["records"]) == (0, 160, found["records"])
    assert longer["before"] == found["before"]


@pytest.mark.parametrize("worse", [True, False])
def test_nothing_is_promoted_that_became_worse(
    worse: bool, state: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = start.read_bytes()

    def compare(_config: object, weights: bytes) -> ControlFigures:
        is_trained = weights != before
        return replace(FIGURES, true_success_25=0.95 if is_trained is not worse else 0.9)

    monkeypatch.setattr(learning_from_records, "_compare", compare)
    models = tmp_path / "models"
    words = ("--from-records", state, "--start", start, "--run", tmp_path / "run", "--frames", 128)
    code, found, text = run(*words, "--promote", models)
    assert (found["became_worse"], found["promoted"], code) == (worse, not worse, int(worse))
    assert ("nothing was promoted" in text) is worse
    assert models.exists() is not worse
    if not worse:
        stored = load_model(models, "actor")
        assert stored.data == (tmp_path / "run" / "actor_best.safetensors").read_bytes()
        assert stored.entry.training["records"] == found["records"]
        assert "--from-records" in stored.entry.training["command"]
        assert stored.entry.figures["before"]["true_success_25"] == 0.9
        assert stored.entry.figures["on_the_twin"]["true_success_25"] == 0.95


@pytest.mark.parametrize(
    ("change", "worse"),
    [
        ({}, False),
        ({"true_success_25": 0.91, "p90_frames": 20.0}, False),
        ({"true_success_25": 0.89, "p90_frames": 2.0}, True),
        ({"p90_frames": 9.0}, True),
        ({"p90_frames": None}, True),
        ({"median_frames": 6.0}, True),
        ({"median_frames": 4.0}, False),
    ],
)
def test_what_counts_as_worse(change: dict[str, float | None], worse: bool) -> None:
    def merit(figures: ControlFigures) -> tuple[float, float, float]:
        return learning_from_records._sort_key(figures)

    assert (merit(replace(FIGURES, **change)) < merit(FIGURES)) is worse


def test_records_of_another_configuration_are_refused(state: Path, start: Path, tmp_path: Path) -> None:
    for part in ("watch", "actions", "other"):
        (tmp_path / part).mkdir()
    config = tmp_path / "semd.toml"
    folders = '[watch]\ndirectory = "watch"\n[actions]\ndirectory = "actions"\n[state]\ndirectory = "other"\n'
    config.write_text(
        folders + '[limits]\nbrightness = [0.0, 45.0]\n[control]\naxes = ["wd", "brightness", "contrast"]\n'
    )
    with pytest.raises(DatasetError, match=r"foreign 3.*--config"):
        run("--from-records", state, "--start", start, "--run", tmp_path / "run", "--config", config)
    assert not (tmp_path / "run").exists()


def test_wrong_calls_say_so(state: Path, start: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--from-records"):
        run("--run", tmp_path / "run", "--start", start)
    with pytest.raises(ConfigError, match="no such file"):
        run("--run", tmp_path / "run", "--from-records", state, "--start", tmp_path / "none")
    with pytest.raises(TrainingError, match=r"experience\.npz"):
        run("--run", tmp_path / "run", "--from-records", state, "--start", start, "--resume")
