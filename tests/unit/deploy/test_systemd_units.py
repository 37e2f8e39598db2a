"""The systemd units: what they promise, and what systemd itself says of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from semd.config import LinkConfig

UNITS = Path(__file__).parents[3] / "systemd"
DAEMON, CLIENT = "semd.service", "semd-middle-client.service"
HIGHEST_EXPOSURE = 1.5

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (package systemd)"
)
each_unit = pytest.mark.parametrize("name", [DAEMON, CLIENT])


def settings(name: str) -> dict[str, list[str]]:
    """All values of each key, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in (UNITS / name).read_text("utf-8").splitlines():
        key, sign, value = line.partition("=")
        if sign and not line.startswith(("#", "[")):
            found[key].append(value)
    return found


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False)


@each_unit
def test_ready_and_watchdog_are_the_main_process_own(name: str) -> None:
    unit = settings(name)
    assert unit["Type"] == ["notify"]
    assert unit["NotifyAccess"] == ["main"]
    assert unit["Restart"] == ["always"]
    [watchdog] = unit["WatchdogSec"]
    # The longest a round may wait by itself: a connection, a send, a watch that is stopped.
    assert int(watchdog) >= 4 * LinkConfig().connect_timeout_s


@each_unit
def test_restarts_end_when_every_start_fails_at_once(name: str) -> None:
    unit = settings(name)
    [interval], [burst], [pause] = unit["StartLimitIntervalSec"], unit["StartLimitBurst"], unit["RestartSec"]
    assert interval == "10min"
    # With the pause alone, and with starts that take ten seconds to fail, the limit is reached within the interval.
    assert int(burst) * (int(pause) + 10) < 600


@each_unit
def test_each_has_its_directories_and_no_other_rights_to_write(name: str) -> None:
    unit = settings(name)
    assert unit["StateDirectory"] == ["semd semd/state semd/actions"]
    assert unit["LogsDirectory"] == ["semd"]
    # Not shared: systemd removes it when one of the two stops.
    assert unit["RuntimeDirectory"] == ["semd-daemon" if name == DAEMON else "semd-middle-client"]
    assert unit["ReadWritePaths"] == ["-/srv/sem"]
    assert unit["ProtectSystem"] == ["strict"]


def test_torch_may_generate_code_and_the_middle_client_may_not() -> None:
    assert "MemoryDenyWriteExecute" not in settings(DAEMON)
    assert settings(CLIENT)["MemoryDenyWriteExecute"] == ["yes"]


def test_the_notify_socket_stays_within_reach() -> None:
    for name in (DAEMON, CLIENT):
        assert "AF_UNIX" in settings(name)["RestrictAddressFamilies"][0].split()


def test_the_daemon_has_no_network_and_the_middle_client_the_loopback_alone() -> None:
    assert settings(DAEMON)["PrivateNetwork"] == ["yes"]
    assert settings(CLIENT)["IPAddressDeny"] == ["any"]
    assert settings(CLIENT)["IPAddressAllow"] == ["localhost"]


def complaints(directory: Path, name: str, change: tuple[str, str] = ("", "")) -> str:
    """Output of `verify` for the unit, with a program that exists here in place of the installed one."""
    for unit in UNITS.glob("*.service"):
        text = unit.read_text("utf-8").replace("/opt/semd/venv/bin/semd", sys.executable)
        (directory / unit.name).write_text(text.replace(*change) if unit.name == name else text, "utf-8")
    verdict = analyze("verify", "--man=no", str(directory / name))
    said = "\n".join(line for line in (verdict.stdout + verdict.stderr).splitlines() if "semd" in line)
    return said or (f"exit status {verdict.returncode}: {verdict.stderr}" if verdict.returncode else "")


@needs_systemd
@each_unit
def test_systemd_finds_nothing_wrong(tmp_path: Path, name: str) -> None:
    assert complaints(tmp_path, name) == ""


@needs_systemd
def test_systemd_would_find_a_misspelt_key(tmp_path: Path) -> None:
    assert "WatchdogSecs" in complaints(tmp_path, DAEMON, ("WatchdogSec=", "WatchdogSecs="))


@needs_systemd
@each_unit
def test_the_exposure_is_low(name: str) -> None:
    verdict = analyze("security", "--offline=true", "--no-pager", str(UNITS / name))
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", verdict.stdout)
    assert found is not None, verdict.stdout + verdict.stderr
    assert float(found.group(1)) <= HIGHEST_EXPOSURE
