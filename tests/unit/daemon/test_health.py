"""Verdicts of `semd health` on snapshots written by hand."""

from __future__ import annotations

import json
import os
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from semd.config import Config, load_config
from semd.daemon.health import DaemonHealth, check_health, write_health
from semd.model_store import default_directory

NOW_S = 1_800_000_000.0
WELL = DaemonHealth(
    written_at=NOW_S - 1,
    started_at=NOW_S - 3600,
    pid=os.getpid(),
    watching=True,
    unheard_frames=0,
    directory_ok=True,
    scan_age_s=0.4,
    storage_ok=True,
    waiting=0,
    queue_growing_s=0.0,
    answered=3,
    quarantined=0,
    last_frame="frame-000002",
    last_status="ADJUST",
    memory_mb=400.0,
    models="0" * 64,
    models_unchanged=True,
    disk_free_mb={"state": 20_000.0, "actions": 20_000.0},
)
CLIENT = {"written_at": NOW_S - 1, "pid": os.getpid(), "link_up": True, "pending": 0, "trouble": ""}
Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    for name in ("in", "out", "state"):
        (tmp_path / name).mkdir()
    path = tmp_path / "semd.toml"
    path.write_text(
        "[watch]\ndirectory = 'in'\n[actions]\ndirectory = 'out'\n[state]\ndirectory = 'state'\n"
        "[health]\nmax_waiting = 100\n"
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100e9, 80e9, 20e9))
    return load_config(path)


def write(config: Config, client: dict[str, object] | None = None, **changes: object) -> None:
    write_health(config.state.directory, replace(WELL, **changes))  # type: ignore[arg-type]
    shown = CLIENT | (client or {})
    (config.state.directory / "middle-client-health.json").write_text(json.dumps(shown))


def test_both_well(config: Config) -> None:
    write(config)
    report = check_health(config, NOW_S)
    assert report.healthy
    assert report.reasons == []
    assert report.daemon is not None
    assert report.daemon["answered"] == 3


@pytest.mark.parametrize(
    ("client", "changes", "word"),
    [
        ({}, {"written_at": NOW_S - 11}, "daemon has not been heard"),
        ({}, {"pid": 2**22 + 1}, "daemon has not been heard"),
        ({}, {"directory_ok": False}, "watch directory"),
        ({}, {"storage_ok": False}, "cannot be written"),
        ({}, {"watching": False}, "no events"),
        ({"link_up": False}, {}, "link"),
        ({"written_at": NOW_S - 60}, {}, "middle client has not been heard of for 60 s"),
        ({}, {"unheard_frames": 3}, "emitter is stuck"),
        ({}, {"scan_age_s": 61.0}, "last scanned 61 s ago"),
        ({}, {"waiting": 101}, "101 frames are waiting"),
        ({}, {"waiting": 40, "queue_growing_s": 210.0}, "growing for 210 s, to 40 frames"),
        ({}, {"models_unchanged": False}, "model files were changed"),
        ({}, {"unreadable": 2}, "of 2 frames a file cannot be read"),
        ({}, {"failed_in_a_row": 4}, "failed on the last 4 frames"),
        ({}, {"written_at": NOW_S + 3600}, "daemon was last heard of 3600 s ahead of this clock"),
        ({"written_at": NOW_S + 11}, {}, "middle client was last heard of 11 s ahead"),
        ({"pending": 11}, {}, "11 actions wait"),
        ({"trouble": "SEMD-S01: the disk is full"}, {}, "SEMD-S01: the disk is full"),
    ],
)
def test_each_trouble_has_its_reason(
    config: Config, client: dict[str, object], changes: dict[str, object], word: str
) -> None:
    write(config, client, **changes)
    report = check_health(config, NOW_S)
    assert not report.healthy
    assert len(report.reasons) == 1
    assert word in report.reasons[0]


def test_what_is_tolerated_is_no_reason(config: Config) -> None:
    write(config, {"pending": 10}, unheard_frames=2, scan_age_s=60.0, waiting=100, queue_growing_s=180.0)
    assert check_health(config, NOW_S).healthy


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_damaged_snapshot_is_a_reason(config: Config, content: str) -> None:
    write(config)
    (config.state.directory / "health.json").write_text(content)
    report = check_health(config, NOW_S)
    assert [reason for reason in report.reasons if "health.json" in reason]


def test_a_snapshot_of_an_older_version_or_of_nonsense_is_judged_by_what_it_has(config: Config) -> None:
    write(config)
    old = {"written_at": NOW_S - 1, "pid": os.getpid(), "watching": True, "directory_ok": True, "storage_ok": True}
    path = config.state.directory / "health.json"
    path.write_text(json.dumps(old))
    assert check_health(config, NOW_S).healthy
    path.write_text(json.dumps(old | {"written_at": "yesterday", "waiting": None}))
    assert [reason for reason in check_health(config, NOW_S).reasons if "not been heard of" in reason]


def test_a_disk_that_is_nearly_full(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    write(config)
    room = {config.state.directory: 5e9, config.actions.directory: 0.9e9}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100e9, 0, room[path]))
    [reason] = check_health(config, NOW_S).reasons
    assert reason == f"the disk of {config.actions.directory} is nearly full: 900 MB are free"


def test_a_directory_that_is_gone_has_no_known_room(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    write(config)
    monkeypatch.undo()
    config.actions.directory.rmdir()
    reasons = check_health(config, NOW_S).reasons
    assert [reason for reason in reasons if str(config.actions.directory) in reason and "unknown" in reason]


def test_models_that_are_not_what_the_manifest_says(config: Config, tmp_path: Path) -> None:
    write(config)
    models = tmp_path / "models"
    shutil.copytree(default_directory(), models)
    path = tmp_path / "semd.toml"
    path.write_text(path.read_text() + "[models]\ndirectory = 'models'\n")
    config = load_config(path)
    assert check_health(config, NOW_S).healthy
    weights = next(models.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    [reason] = check_health(config, NOW_S).reasons
    assert reason.startswith("a model is unverified: SEMD-M01")
    assert weights.name in reason
