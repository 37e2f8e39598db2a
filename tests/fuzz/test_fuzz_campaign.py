"""The campaign finds what is planted, survives it, and can be gone on with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from harness import planted_targets

from semd.campaigns.fuzz import worker_pool as pool
from semd.campaigns.fuzz.fuzz_campaign import FuzzSpec, run_campaign
from semd.campaigns.fuzz.mutators import make_input
from semd.errors import ConfigError

SEEDS = (b"bad=1\nx=2\n", b"good=1\ny=22\n")
KINDS = {
    "escapes": "escaped", "lies": "broken-promise", "dies": "died", "hangs": "hung", "burns": "slow",
    "gorges": "memory", "gorges-quietly": "memory",
}  # fmt: skip


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FuzzSpec:
    here = str(Path(planted_targets.__file__).parent)
    monkeypatch.syspath_prepend(here)
    monkeypatch.setenv("PYTHONPATH", here)
    folder = tmp_path / "corpus" / "seeds"
    folder.mkdir(parents=True)
    for number, data in enumerate(SEEDS):
        (folder / f"{number}.txt").write_bytes(data)
    return FuzzSpec(
        inputs=16, seed=3, corpus=tmp_path / "corpus", out=tmp_path / "out", table="planted_targets:TARGETS",
        memory_mb=512, limit_s=0.1,
    )  # fmt: skip


def test_everything_planted_is_found_and_survived(spec: FuzzSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_LEAST_HANG_S", 3.0)
    fed: list[int] = []
    report = run_campaign(spec, fed.append)
    assert {finding.target: finding.kind for finding in report.findings} == KINDS
    # Two inputs for each of eight targets: the second follows though the first killed its process.
    assert {name: figures.inputs for name, figures in report.figures.items()} == dict.fromkeys([*KINDS, "refuses"], 2)
    assert sum(fed) == report.inputs == 16
    assert not report.clean
    assert spec.out is not None
    saved = {path.name: path.read_bytes() for path in (spec.out / "findings").glob("*.bin")}
    assert saved == {f"{name}-0.bin": SEEDS[0] for name in KINDS}
    told = (spec.out / "findings" / "escapes-0.txt").read_text()
    assert "KeyError" in told
    assert "nobody catches this" in told
    assert "signal 11" in (spec.out / "findings" / "dies-0.txt").read_text()
    assert json.loads((spec.out / "fuzz.json").read_bytes())["faults"] == len(KINDS)


def test_a_campaign_goes_on_where_it_was_left(spec: FuzzSpec) -> None:
    short = replace(spec, only=("refuses",), inputs=500, workers=1)
    first = run_campaign(short, lambda _: None)
    fed: list[int] = []
    second = run_campaign(replace(short, inputs=1500, workers=2), fed.append)
    assert fed[0] == first.inputs == 500
    assert (sum(fed), second.inputs) == (1500, 1500)
    whole = run_campaign(replace(short, inputs=1500, out=None), lambda _: None)
    assert whole.figures["refuses"].accepted == second.figures["refuses"].accepted
    assert 0 < whole.figures["refuses"].accepted < 1500
    with pytest.raises(ConfigError, match="another seed"):
        run_campaign(replace(short, seed=4), lambda _: None)


def test_ctrl_c_keeps_what_is_known(spec: FuzzSpec) -> None:
    def interrupt(fed: int) -> None:
        if fed:
            raise KeyboardInterrupt

    # With several workers a later block may be done before an earlier one, which is then made up for.
    endless = replace(spec, only=("refuses",), inputs=10_000, workers=1)
    report = run_campaign(endless, interrupt)
    assert report.interrupted
    assert 0 < report.inputs < 10_000
    assert run_campaign(replace(endless, inputs=report.inputs), lambda _: None).inputs == report.inputs


def test_inputs_follow_from_their_numbers() -> None:
    made = [make_input("a", SEEDS, 1, index, is_text=True) for index in range(300)]
    assert made[:2] == list(SEEDS)
    assert made == [make_input("a", SEEDS, 1, index, is_text=True) for index in range(300)]
    assert made != [make_input("a", SEEDS, 2, index, is_text=True) for index in range(300)]
    assert made != [make_input("b", SEEDS, 1, index, is_text=True) for index in range(300)]
    assert len(set(made)) > 250


def test_unknown_targets_and_missing_corpora_are_said(spec: FuzzSpec) -> None:
    with pytest.raises(ConfigError, match="escapes"):
        run_campaign(replace(spec, only=("nothing",)), lambda _: None)
    with pytest.raises(ConfigError, match="--corpus"):
        run_campaign(replace(spec, corpus=spec.corpus / "none"), lambda _: None)


def test_a_worker_that_cannot_begin_is_said(spec: FuzzSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH")
    with pytest.raises(ConfigError, match="planted_targets"):
        run_campaign(replace(spec, workers=1), lambda _: None)
