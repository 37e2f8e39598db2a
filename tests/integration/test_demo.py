"""The newcomer's command: three processes, a sharp picture at the end, one JSON line, a report that stands alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

FIELDS = ["status", "frames", "score", "true_score", "wd_error_mm", "blur_px", "brightness_contrast_ok", "seconds"]


def demo(directory: Path, *arguments: str) -> tuple[dict[str, object], list[str], str]:
    command = [sys.executable, "-m", "semd", "demo", "--json", "--directory", str(directory), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    return json.loads(lines[-1]), lines, (directory / "report.html").read_text("utf-8")


@pytest.mark.parametrize("sample", ["tinball", "grid"])
def test_it_gets_sharp(tmp_path: Path, sample: str) -> None:
    result, lines, report = demo(tmp_path, "--sample", sample, "--magnification", "2000", "--seed", "0")
    assert list(result) == FIELDS
    assert result["status"] == "DONE"
    assert 1 < int(str(result["frames"])) <= 25
    assert float(str(result["true_score"])) >= 9.0
    assert result["brightness_contrast_ok"] is True
    live = [line for line in lines if line.startswith("frame ")]
    assert len(live) == result["frames"]
    assert live[-1].endswith("-> DONE")
    assert all(word in live[0] for word in ("score", "WD", "brightness", "contrast", "ADJUST"))
    # Self-contained: every picture is inside, nothing is fetched.
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", report)
    assert report.count("data:image/jpeg;base64,") == 2 + int(str(result["frames"]))


def test_coxems_own_link_with_the_working_distance_alone(tmp_path: Path) -> None:
    result, _, _ = demo(tmp_path, "--layout", "single", "--link", "aisem", "--seed", "0")
    assert result["status"] == "DONE"
    assert float(str(result["true_score"])) >= 9.0
    sent = sorted((tmp_path / "actions" / "sent").glob("action-*.txt"))
    assert len(sent) == result["frames"]
    assert "BRIGHTNESS" not in sent[0].read_text()
    assert not list((tmp_path / "watch").iterdir())
    assert len(list((tmp_path / "state" / "archive").glob("*~ResponseImage.jpg"))) == result["frames"]
