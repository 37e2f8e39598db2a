"""From `semd model export` to a pipeline that answers with the exported model, and `semd evaluate latency` beside."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from semd.cli import app
from semd.config import load_config
from semd.datasets.simulated import DatasetSpec, build_dataset
from semd.domain.axes import Parameters
from semd.errors import ConfigError, DatasetError, ModelError, StorageError
from semd.evaluation.control.table_one import simulator_rules
from semd.evaluation.speed import latency
from semd.evaluation.speed.latency import measure_latency, save_latency
from semd.evaluation.speed.latency_worker import KINDS
from semd.model_store import default_directory, load_model, load_runtime, read_manifest, store_model
from semd.pipeline import load_pipeline
from semd.replay.player import replay_frames
from semd.scoring.network import Architecture, ScoringNetwork
from semd.scoring.stored import network_to_bytes
from semd.simulator.frame_writer import FrameWriter
from semd.simulator.microscope import VirtualMicroscope
from semd.training.export.runtime_export import ExportFrames, export_scorer

RUN = CliRunner()


def store_scorer(directory: Path, seed: int) -> None:
    torch.manual_seed(seed)
    network = ScoringNetwork(Architecture(height_px=240, width_px=320, replicas=2))
    entry = {"file": "scorer.safetensors", "input": "i", "output": "o", "training": {}, "figures": {}}
    store_model(directory, "scorer", network_to_bytes(network), entry)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    directory = tmp_path / "models"
    actor = load_model(default_directory(), "actor")
    store_model(directory, "actor", actor.data, actor.entry.model_dump(exclude={"sha256"}))
    store_scorer(directory, seed=5)
    return directory


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = DatasetSpec(frames=60, assorted_share=0.0, test_share=0.4, seed=11)
    return build_dataset(spec, tmp_path_factory.mktemp("data"), workers=1, progress=False)


def image() -> NDArray[np.uint8]:
    return VirtualMicroscope("tinball", 2000.0, 5).scan().image


def test_export_verify_and_answer(models: Path, data: Path) -> None:
    asked = ["--data", str(data), "--models", str(models), "--frames", "8", "--calibration", "6", "--json"]
    for runtime in ("fp32", "int8"):
        done = RUN.invoke(app, ["model", "export", "--runtime", runtime, *asked])
        assert done.exit_code == 0, done.output
        entry = json.loads(done.stdout.splitlines()[-1])
        assert entry["file"] == f"scorer.{runtime}.onnx"
        assert entry["figures"]["against_eager_torch"]["frames"] == 8
        assert entry["scorer_sha256"] == read_manifest(models).models["scorer"].sha256
    verified = RUN.invoke(app, ["model", "verify", "--directory", str(models), "--json"])
    assert verified.exit_code == 0
    assert json.loads(verified.stdout)["scorer int8"] == "ok"
    assert len(load_runtime(models, "int8").data) < 0.5 * len(load_runtime(models, "fp32").data)

    frame, parameters = image(), Parameters(2000.0, 10.0, 50.0, 50.0)
    pipelines = [load_pipeline(models, 1, simulator_rules, runtime) for runtime in ("torch", "fp32", "int8")]
    seen = [pipeline.answer(None, "frame", parameters, frame).observation.measurement for pipeline in pipelines]
    scores = [measurement.score for measurement in seen if measurement is not None]
    assert scores[1] == pytest.approx(scores[0], abs=0.001)
    assert scores[2] == pytest.approx(scores[0], abs=0.1)
    assert len({pipeline.models_digest for pipeline in pipelines}) == 3

    store_scorer(models, seed=6)
    with pytest.raises(ModelError, match="export it again"):
        load_pipeline(models, 1, simulator_rules, "int8")
    stale = RUN.invoke(app, ["model", "verify", "--directory", str(models)])
    assert stale.exit_code == 1
    assert "scorer fp32: SEMD-M01" in stale.stdout


def test_the_configuration_chooses_the_runtime(models: Path, data: Path, tmp_path: Path) -> None:
    for name in ("watch", "actions", "state", "recording"):
        (tmp_path / name).mkdir()
    config = tmp_path / "semd.toml"
    sections = "".join(f'[{name}]\ndirectory = "{name}"\n' for name in ("watch", "actions", "state", "models"))
    config.write_text(sections + '[scoring]\nruntime = "fp32"\n')
    text = "MAG=2000\nWD=10000\nBRIGHTNESS=50\nCONTRAST=50\n"
    FrameWriter(tmp_path / "recording").write(0, image(), text)
    with pytest.raises(ModelError, match="semd model export --runtime fp32"):
        replay_frames(tmp_path / "recording", load_config(config), tmp_path / "out")
    export_scorer(models, "fp32", ExportFrames(data, calibration=1, verification=2), lambda steps, doing: steps)
    assert replay_frames(tmp_path / "recording", load_config(config), tmp_path / "out")["answered"] == 1


def test_frames_are_simulated_where_there_is_no_dataset(models: Path) -> None:
    asked = ExportFrames(calibration=2, verification=3, seed=4, workers=1)
    entry = export_scorer(models, "fp32", asked, lambda steps, doing: steps)
    assert entry.figures["against_eager_torch"]["frames"] == 3
    assert entry.made["data"] == "simulated for it"


def test_what_cannot_be_exported_leaves_the_folder_alone(
    models: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in models.iterdir()}

    def export(frames: int) -> None:
        asked = ExportFrames(data, calibration=2, verification=frames)
        export_scorer(models, "fp32", asked, lambda steps, doing: steps)

    with pytest.raises(DatasetError, match="1000 are needed"):
        export(1000)
    monkeypatch.setattr("semd.training.export.onnx_export.BOUNDS", {"fp32": -1.0})
    with pytest.raises(ModelError, match="refused"):
        export(2)
    monkeypatch.setattr("semd.training.export.runtime_export.os.access", lambda path, mode: False)
    with pytest.raises(StorageError, match="--models"):
        export(2)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match="pip install"):
        export(2)
    assert {path.name: path.read_bytes() for path in models.iterdir()} == before


def test_a_runtime_that_is_not_known_is_refused() -> None:
    done = RUN.invoke(app, ["model", "export", "--runtime", "int4"])
    assert "SEMD-C01" in str(done.exception)
    assert "fp32 and int8" in str(done.exception)


@pytest.mark.slow
def test_latency_of_all_kinds_side_by_side(models: Path, data: Path, tmp_path: Path) -> None:
    export_scorer(models, "fp32", ExportFrames(data, calibration=1, verification=2), lambda steps, doing: steps)
    report = measure_latency(models, 5, (1,), lambda steps, doing: steps)
    rows = {(row.kind, row.busy): row for row in report.rows}
    assert set(rows) == {(kind, busy) for kind in KINDS[:3] for busy in (False, True)}
    assert list(report.missing) == [KINDS[3]]
    assert "semd model export --runtime int8" in report.missing[KINDS[3]]
    for (kind, busy), row in rows.items():
        assert 0.0 < row.bare.median_ms <= row.bare.p95_ms
        eager = rows[KINDS[0], busy].frame.median_ms
        assert row.times_as_fast == pytest.approx(eager / row.frame.median_ms, abs=0.01)
        idle = rows[kind, False].frame.median_ms
        assert row.of_idle == pytest.approx(row.frame.median_ms / idle, abs=0.01)
    assert set(report.memory_mb) == set(KINDS[:3])
    assert all(memory["peak_mb"] > 100.0 for memory in report.memory_mb.values() if memory["peak_mb"] is not None)
    save_latency(report, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "latency.json").read_text())["frames"] == 5
    table = (tmp_path / "out" / "latency.txt").read_text()
    assert "exported int8" in table
    assert "not timed" in table


def test_latency_needs_a_scorer_and_threads(tmp_path: Path, models: Path) -> None:
    with pytest.raises(ConfigError, match="threads"):
        measure_latency(models, 5, (1, 0), lambda steps, doing: steps)
    with pytest.raises(ModelError, match=r"manifest\.json"):
        measure_latency(tmp_path, 5, (1,), lambda steps, doing: steps)


def test_a_process_that_ends_too_early_is_named(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "print('{}', flush=True)"
    started = latency._process
    monkeypatch.setattr(latency, "_process", lambda arguments: started(["-c", program]))
    with pytest.raises(ModelError, match="'torch, eager' ended"):
        measure_latency(models, 5, (1,), lambda steps, doing: steps)
