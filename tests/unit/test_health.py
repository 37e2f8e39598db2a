"""What `semd health` says of snapshots written by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from semd.daemon.health import DaemonHealth, check_health, write_health

NOW_S = 1_800_000_000.0
WELL = DaemonHealth(
    written_at=NOW_S - 1,
    pid=os.getpid(),
    watching=True,
    directory_ok=True,
    storage_ok=True,
    waiting=0,
    answered=3,
    quarantined=0,
    last_frame="frame-000002",
    last_status="ADJUST",
    memory_mb=400.0,
)


def write(tmp_path: Path, client: dict[str, object] | None = None, **changes: object) -> None:
    values = {name: getattr(WELL, name) for name in WELL.__dataclass_fields__} | changes
    write_health(tmp_path, DaemonHealth(**values))  # type: ignore[arg-type]
    shown = {"written_at": NOW_S - 1, "pid": os.getpid(), "link_up": True} | (client or {})
    (tmp_path / "middle-client-health.json").write_text(json.dumps(shown))


def test_both_well(tmp_path: Path) -> None:
    write(tmp_path)
    report = check_health(tmp_path, NOW_S)
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
    ],
)
def test_each_trouble_has_its_reason(
    tmp_path: Path, client: dict[str, object], changes: dict[str, object], word: str
) -> None:
    write(tmp_path, client, **changes)
    report = check_health(tmp_path, NOW_S)
    assert not report.healthy
    assert len(report.reasons) == 1
    assert word in report.reasons[0]


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_damaged_snapshot_is_a_reason(tmp_path: Path, content: str) -> None:
    write(tmp_path)
    (tmp_path / "health.json").write_text(content)
    report = check_health(tmp_path, NOW_S)
    assert [reason for reason in report.reasons if "health.json" in reason]
