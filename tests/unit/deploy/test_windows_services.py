"""The Windows service definitions: what WinSW makes of them, and that what they start is there."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
from lxml import etree

from semd.cli import app
from semd.config import HealthConfig, LinkConfig

ROOT = Path(__file__).parents[3]
WINDOWS = ROOT / "deploy" / "windows"
DAEMON, CLIENT = "semd-daemon.xml", "semd-middle-client.xml"
UNITS = {DAEMON: "semd.service", CLIENT: "semd-middle-client.service"}
SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).parent / "schemas" / "winsw-2.rng"))

each_service = pytest.mark.parametrize("name", [DAEMON, CLIENT])


def definition(name: str) -> etree._Element:
    return etree.parse(WINDOWS / name).getroot()


def text(service: etree._Element, path: str) -> str:
    [found] = service.findall(path)
    return found.text


def seconds(duration: str) -> int:
    number, unit = re.fullmatch(r"(\d+) (sec|min|hour)", duration).groups()
    return int(number) * {"sec": 1, "min": 60, "hour": 3600}[unit]


def unit_seconds(name: str, key: str) -> int:
    [found] = re.findall(rf"^{key}=(\d+)$", (ROOT / "systemd" / UNITS[name]).read_text("utf-8"), re.MULTILINE)
    return int(found)


@each_service
def test_a_definition_is_what_winsw_reads(name: str) -> None:
    assert SCHEMA.validate(etree.parse(WINDOWS / name)), SCHEMA.error_log


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("<id>semd</id>", "<id>semd middle</id>"),
        ("<id>semd</id>", ""),
        ("stoptimeout>20 sec", "stoptimeout>20 seconds"),
        ('action="restart" delay="2 sec"', 'action="start" delay="2 sec"'),
        ("<priority>belownormal", "<priority>low"),
        ("keepFiles", "keepfiles"),
        ('mode="roll-by-size"', 'mode="roll-by-weight"'),
        ("<startmode>", "<startMode>"),
        ("<user>LocalService</user>", ""),
    ],
)
def test_the_schema_refuses_what_winsw_would_not_understand(right: str, wrong: str) -> None:
    good = (WINDOWS / DAEMON).read_text("utf-8")
    assert right in good
    bad = good.replace(right, wrong).replace("</startmode>", "</startMode>" if "startMode" in wrong else "</startmode>")
    bad = re.sub(r"</keepFiles>", "</keepfiles>", bad) if wrong == "keepfiles" else bad
    assert not SCHEMA.validate(etree.fromstring(bad.encode()))


@each_service
def test_what_is_started_is_a_command_of_semd_with_options_it_has(name: str) -> None:
    service = definition(name)
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    executable = text(service, "executable")
    assert executable == r"%BASE%\venv\Scripts\semd.exe"
    assert Path(executable.replace("\\", "/")).stem in scripts
    # Backslashes are plain characters to Windows, double quotes hold a path with spaces together.
    command, *options = shlex.split(text(service, "arguments").replace("\\", "/"))
    commands = typer.main.get_command(app).commands
    context = commands[command].make_context(command, options)
    assert context.params["config"] == Path("%ProgramData%/semd/semd.toml")
    unit = (ROOT / "systemd" / UNITS[name]).read_text("utf-8")
    assert re.search(rf"^ExecStart=\S+/semd {command} --config ", unit, re.MULTILINE)


@each_service
def test_it_has_the_grace_period_of_the_unit_and_always_comes_back(name: str) -> None:
    service = definition(name)
    assert seconds(text(service, "stoptimeout")) == unit_seconds(name, "TimeoutStopSec")
    assert seconds(text(service, "stoptimeout")) >= 2 * LinkConfig().connect_timeout_s
    failures = [(each.get("action"), seconds(each.get("delay"))) for each in service.findall("onfailure")]
    assert {action for action, _ in failures} == {"restart"}
    delays = [delay for _, delay in failures]
    assert delays == sorted(delays)
    # A share that comes late after a start of the PC must not be hammered, nor waited for too long.
    assert delays[0] <= 2
    assert 30 <= delays[-1] <= 60
    assert seconds(text(service, "resetfailure")) > sum(delays)


@each_service
def test_it_runs_with_few_rights_and_without_a_password_in_the_file(name: str) -> None:
    service = definition(name)
    assert (text(service, "serviceaccount/domain"), text(service, "serviceaccount/user")) == (
        "NT AUTHORITY",
        "LocalService",
    )
    assert service.find("serviceaccount/password") is None
    assert service.find("interactive") is None
    assert service.find("download") is None


@each_service
def test_its_output_is_utf_8_and_bounded(name: str) -> None:
    service = definition(name)
    environment = {each.get("name"): each.get("value") for each in service.findall("env")}
    assert environment["PYTHONUTF8"] == "1"
    assert environment["PYTHONUNBUFFERED"] == "1"
    size_kb, files = int(text(service, "log/sizeThreshold")), int(text(service, "log/keepFiles"))
    assert size_kb * (files + 1) <= 100 * 1024


def test_the_two_have_names_of_their_own_and_neither_waits_for_the_other() -> None:
    services = [definition(name) for name in (DAEMON, CLIENT)]
    ids = [text(service, "id") for service in services]
    assert len(set(ids)) == 2
    assert len({text(service, "name") for service in services}) == 2
    for service in services:
        assert not {each.text for each in service.findall("depend")} & set(ids)


@pytest.mark.parametrize("name", UNITS)
def test_where_systemd_watches_it_is_the_first_to_act(name: str) -> None:
    assert 0 < unit_seconds(name, "WatchdogSec") < HealthConfig().end_hung_s
