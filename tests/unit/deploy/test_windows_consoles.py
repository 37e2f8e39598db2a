"""Consoles that are not UTF-8 (Korean Windows speaks CP949): nothing ends for want of a character."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from semd.cli.output import forgive_consoles, print_json
from semd.service.logs import configure_logs

STRANGE = "WD +25 µm ✓ 현미경"


def run(*arguments: str, encoding: str = "cp949") -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    return subprocess.run(
        [sys.executable, "-m", "semd", *arguments], env=environment, capture_output=True, timeout=120, check=False
    )


@pytest.mark.parametrize(("encoding", "shown"), [
    ("cp949", "WD +25 \\xb5m \\u2713 현미경"),
    ("ascii", "WD +25 \\xb5m \\u2713 \\ud604\\ubbf8\\uacbd"),
    ("utf-8", STRANGE),
])  # fmt: skip
def test_what_a_console_has_no_character_for_is_escaped(
    encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("stdout", "stderr"):
        console = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, name, console)
        forgive_consoles()
        print(STRANGE, file=console, flush=True)
        assert console.buffer.getvalue().decode(encoding) == shown + os.linesep  # type: ignore[attr-defined]


def test_json_is_json_in_every_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"path": STRANGE, "name that is no text": "\udcff"}
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp949")
    monkeypatch.setattr(sys, "stdout", console)
    print_json(values)
    assert json.loads(console.buffer.getvalue()) == values  # type: ignore[attr-defined]


def test_log_lines_are_json_on_the_console_and_in_the_file(tmp_path: Path) -> None:
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp949")
    configure_logs(tmp_path / "log", stream=console)
    structlog.get_logger().info("test.event", text=STRANGE, stem="frame\udcff")
    configure_logs(None, stream=io.StringIO())
    raw = (tmp_path / "log").read_bytes()
    assert STRANGE.encode() in raw
    for line in (console.buffer.getvalue(), raw):  # type: ignore[attr-defined]
        assert json.loads(line)["text"] == STRANGE
        assert json.loads(line)["stem"] == "frame\udcff"


def test_commands_end_well_on_a_korean_console(tmp_path: Path) -> None:
    made = run("init", str(tmp_path / "µ ✓"))
    assert (made.returncode, made.stderr) == (0, b"")
    assert b"\\xb5 \\u2713" in made.stdout
    missing = run("health", "--config", str(tmp_path / "µ.toml"))
    assert missing.returncode == 2
    assert missing.stderr.startswith(b"SEMD-C01: ")
    assert b"Traceback" not in missing.stderr
    for page in (("--help",), ("evaluate", "--help")):
        shown = run(*page)
        assert (shown.returncode, shown.stderr) == (0, b"")
        shown.stdout.decode("cp949")
