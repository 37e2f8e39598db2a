"""Failpoints: one table, armed on benches alone, and every one of them is somewhere in the code."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from semd.errors import ConfigError
from semd.middle_client.client_process import run_middle_client
from semd.middle_client.settings import MiddleClientSettings
from semd.service.failpoints import ENVIRONMENT, PERMIT_FILE, TABLE, Failpoint, Trap, arm, disarm, reach

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def nothing_armed() -> Iterator[None]:
    yield
    disarm()


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    (tmp_path / PERMIT_FILE).touch()
    return tmp_path


def test_every_failpoint_is_in_the_table_in_the_code_and_in_the_guide() -> None:
    assert list(TABLE) == list(Failpoint)
    sources = [path for path in (ROOT / "semd").rglob("*.py") if path.name != "failpoints.py"]
    code = "\n".join(path.read_text() for path in sources if "evaluation" not in path.parts)
    guide = (ROOT / "deploy" / "DURABILITY.md").read_text()
    assert [point for point in Failpoint if f"Failpoint.{point.name}" not in code] == []
    assert [point for point in Failpoint if f"`{point}`" not in guide] == []


@pytest.mark.parametrize("text", ["sent:1=kill", "action-writing:2=full*3"])
def test_a_trap_is_written_as_it_is_read(text: str) -> None:
    assert str(Trap.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "sent", "sent:0=kill", "sent:1=maim", "nowhere:1=kill", "sent:1=full*1", "action-writing:1=full*0"]
)
def test_nonsense_is_refused(bench: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=ENVIRONMENT):
        arm({ENVIRONMENT: text}, bench)


def test_nothing_is_armed_where_it_is_not_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="unset it"):
        arm({ENVIRONMENT: "sent:1=kill"}, tmp_path)
    monkeypatch.setenv(ENVIRONMENT, "client-health:1=kill")
    with pytest.raises(ConfigError, match=PERMIT_FILE):
        run_middle_client(MiddleClientSettings(tmp_path / "actions", tmp_path / "state"))
    reach(Failpoint.SENT)


def test_without_an_order_nothing_is_armed(bench: Path) -> None:
    arm({}, bench)
    for point in Failpoint:
        reach(point, prepare=pytest.fail)


def test_the_disk_is_full_from_the_given_time_on_and_as_often_as_said(bench: Path) -> None:
    arm({ENVIRONMENT: "action-writing:2=full*2"}, bench)
    halves: list[int] = []
    found = []
    for number in range(5):
        reach(Failpoint.JOURNAL_WRITING)
        try:
            reach(Failpoint.ACTION_WRITING, lambda number=number: halves.append(number))
        except OSError as error:
            found.append((number, error.errno))
    assert found == [(1, errno.ENOSPC), (2, errno.ENOSPC)]
    assert halves == [1, 2]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_kill_is_a_kill(bench: Path) -> None:
    program = (
        "import atexit; from pathlib import Path; from semd.service.failpoints import Failpoint, arm, reach\n"
        f"bench = Path({str(bench)!r})\n"
        f"arm({{{ENVIRONMENT!r}: 'sent:3=kill'}}, bench)\n"
        "atexit.register((bench / 'cleaned-up').touch)\n"
        "for number in range(9):\n"
        "    reach(Failpoint.SENT, lambda: (bench / str(number)).touch())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-9, "failpoint sent:3=kill springs\n")
    assert sorted(path.name for path in bench.iterdir()) == ["2", PERMIT_FILE]
