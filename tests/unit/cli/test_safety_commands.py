"""`semd abort`, `semd audit`, and what `semd health` says of abort and dry run."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import namedtuple
from pathlib import Path

import pytest
from harness.outbox import drop_file, make_action
from typer.testing import CliRunner

from semd.cli import app
from semd.errors import ConfigError, StorageError
from semd.middle_client.audit import AuditTrail
from semd.middle_client.clock import Clock
from semd.testing import FakeClock

RUN = CliRunner()
Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    for name in ("in", "out", "state"):
        (tmp_path / name).mkdir()
    path = tmp_path / "semd.toml"
    path.write_text(
        "[watch]\ndirectory = 'in'\n[actions]\ndirectory = 'out'\nabort_file = 'STOP'\n[state]\ndirectory = 'state'\n"
    )
    return path


def test_abort_and_clear(config: Path) -> None:
    stop = config.parent / "out" / "STOP"
    for _ in range(2):
        done = RUN.invoke(app, ["abort", "--config", str(config)])
        assert done.exit_code == 0
        assert str(stop) in done.stdout
        assert "semd abort" in stop.read_text()
    drop_file(stop.parent, make_action(1))
    cleared = RUN.invoke(app, ["abort", "--config", str(config), "--clear"])
    assert (cleared.exit_code, stop.exists()) == (0, False)
    assert "1 actions that wait are sent now" in cleared.stdout
    again = RUN.invoke(app, ["abort", "--config", str(config), "--clear"])
    assert (again.exit_code, again.stdout) == (0, "there was no abort\n")


def test_an_abort_that_cannot_be_made_says_so(config: Path) -> None:
    (config.parent / "out").rmdir()
    done = RUN.invoke(app, ["abort", "--config", str(config)])
    assert isinstance(done.exception, StorageError)
    assert "the directory is gone" in str(done.exception)


@pytest.mark.parametrize("dry", [False, True])
def test_health_tells_of_abort_and_dry_run(config: Path, dry: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100e9, 80e9, 20e9))
    client = {"written_at": time.time(), "pid": os.getpid(), "link_up": not dry, "dry_run": dry, "pending": 0}
    (config.parent / "state" / "middle-client-health.json").write_text(json.dumps(client))

    def reasons() -> tuple[list[str], list[str]]:
        done = RUN.invoke(app, ["health", "--config", str(config), "--json"])
        found = json.loads(done.stdout.splitlines()[-1])
        return [reason for reason in found["reasons"] if "never run here" not in reason], found["notes"]

    notes = ["a dry run: actions are filed away and never sent"] if dry else []
    assert reasons() == ([], notes)
    RUN.invoke(app, ["abort", "--config", str(config)])
    [reason], found = reasons()
    assert reason.startswith("aborted, nothing is sent: ")
    assert found == notes
    shown = RUN.invoke(app, ["health", "--config", str(config)])
    assert shown.exit_code == 1
    assert "aborted" in shown.stdout
    assert ("dry run" in shown.stdout) == dry


def test_audit_prints_the_last_commands(config: Path) -> None:
    assert RUN.invoke(app, ["audit", "--config", str(config)]).stdout == "no command has been sent\n"
    clock = FakeClock()
    trail = AuditTrail(config.parent / "state" / "audit", Clock(clock.now, clock.monotonic_s))
    for seq in (1, 2, 3):
        trail.sending(make_action(seq), b"bytes", "WDMAG,9.0000,2000" if seq == 3 else "")
        clock.seconds += 0.5
        if seq != 2:
            trail.ended("NAK \x1b[2Jstage is locked")
    trail.flush()
    shown = RUN.invoke(app, ["audit", "--config", str(config), "--last", "2"]).stdout.splitlines()
    assert shown == [
        '2026-01-02T03:04:05.500+00:00  00000002  ADJUST {"wd": 9.0}  no answer was written down',
        "2026-01-02T03:04:06.000+00:00  00000003  WDMAG,9.0000,2000  NAK ?[2Jstage is locked after 500 ms",
    ]
    report = json.loads(RUN.invoke(app, ["audit", "--config", str(config), "--json"]).stdout.splitlines()[-1])
    assert [command["seq"] for command in report["commands"]] == [1, 2, 3]
    assert report["damaged_lines"] == 0
    assert report["commands"][0]["targets"] == {"wd": 9.0}


@pytest.mark.parametrize("command", ["run", "middle-client"])
@pytest.mark.parametrize(
    ("extra", "word"),
    [
        ('[link]\nhost = "192.0.2.1"\n', "allow_remote"),
        (
            '[instrument]\nprofile = "coxem-em30"\n[limits]\nwd_mm = [5.0, 200.0]\n',
            "goes beyond the instrument profile",
        ),
    ],
)
def test_neither_process_starts_with_what_is_not_safe(config: Path, command: str, extra: str, word: str) -> None:
    config.write_text(config.read_text() + extra)
    done = RUN.invoke(app, [command, "--config", str(config)])
    assert isinstance(done.exception, ConfigError)
    assert word in str(done.exception)
    assert list((config.parent / "state").iterdir()) == []
