"""The manifest's entry: its commands make the same weights again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from typer.testing import CliRunner

from semd.cli import app
from semd.datasets.simulated import DatasetSpec
from semd.training.score.score_settings import preset
from semd.training.score.scorer_manifest_entry import scorer_entry
from semd.training.score.validation import ScoringReport

NOTHING_MEASURED = ScoringReport(**dict.fromkeys(ScoringReport.__dataclass_fields__, 0))


def test_every_setting_of_the_dataset_that_has_an_option_is_named(tmp_path: Path) -> None:
    spec = DatasetSpec(frames=60, frames_per_field=3, assorted_share=0.25, test_share=0.2, label_noise=0.5, seed=4)
    (tmp_path / "spec.json").write_text(json.dumps(asdict(spec)))
    build, train = scorer_entry(preset("default"), [tmp_path], NOTHING_MEASURED, "default", 2)["training"]["commands"]
    words = build.split()
    assert words[:3] == ["semd", "dataset", "build"]
    assert dict(zip(words[4::2], words[5::2], strict=True)) == {
        "--magnifications": "500,1000,2000,5000,10000",
        "--frames": "60",
        "--frames-per-field": "3",
        "--assorted-share": "0.25",
        "--beads-share": "0.0",
        "--test-share": "0.2",
        "--empty-share": "0.0",
        "--far-share": "0.0",
        "--smoothed-share": "0.0",
        "--label-noise": "0.5",
        "--seed": "4",
    }
    assert train == "semd train score --data DATA --run RUN --preset default --seed 0 --threads 2 --processes 2"
    told = CliRunner().invoke(app, ["dataset", "build", "--help"], env={"COLUMNS": "200"}).output
    assert all(option in told for option in words[4::2])


def test_several_datasets_are_named_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "spec.json").write_text(json.dumps(asdict(DatasetSpec(frames=60, seed=1))))
    (tmp_path / "two" / "spec.json").write_text(json.dumps({"imported": True}))
    data = [tmp_path / "one", tmp_path / "two"]
    training = scorer_entry(preset("heads"), data, NOTHING_MEASURED, "heads", 1)["training"]
    build, brought, train = training["commands"]
    assert build.startswith("semd dataset build DATA1 --magnifications 500,1000,2000,5000,10000 --frames 60 ")
    assert brought == "semd dataset import DIR --table TABLE --out DATA2"
    assert train.startswith("semd train score --data DATA1 --data DATA2 --run RUN --preset heads ")
    assert [spec.get("seed") for spec in training["data"]] == [1, None]


def test_a_dataset_set_aside_is_named(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps(asdict(DatasetSpec(frames=60, seed=4))))
    entry = scorer_entry(preset("heads"), [tmp_path], NOTHING_MEASURED, "heads", 1, tmp_path)
    *_, aside, train = entry["training"]["commands"]
    assert aside.startswith("semd dataset build ASIDE --magnifications 500,1000,2000,5000,10000 --frames 60 ")
    assert train.endswith(" --aside ASIDE --threads 2 --processes 1")
