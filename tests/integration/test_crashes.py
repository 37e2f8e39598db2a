"""A few failpoints in real processes, by the code of `semd evaluate crashes`; and every full disk in this one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.daemon_process import TEXT, DaemonUnderTest, jpeg, make_daemon
from harness.middle_client_process import make_action, publish, running, seqs_in, serving, wait_for, with_port

from semd.campaigns.crashes.crash_campaign import CrashCampaignSpec, run_campaign
from semd.middle_client.settings import MiddleClientSettings
from semd.protocol.pairing import Layout
from semd.service import failpoints
from semd.service.failpoints import TABLE, Failpoint, Mode, Part, Trap


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    ("layout", "dialect", "points", "modes", "steps"),
    [
        (Layout.SINGLE, "text", (Failpoint.FILE_MOVED, Failpoint.ACTION_RENAMED, Failpoint.SENT), ("kill",), 5),
        (Layout.SERIES, "aisem", (Failpoint.TRAIL_WRITING, Failpoint.TRAIL_WRITTEN), ("kill", "full"), 5),
    ],
)
def test_nothing_is_lost_and_nothing_done_twice(
    tmp_path: Path,
    layout: Layout,
    dialect: str,
    points: tuple[Failpoint, ...],
    modes: tuple[Mode, ...],
    steps: int,
) -> None:
    spec = CrashCampaignSpec(layouts=(layout,), dialects=(dialect,), points=points, modes=modes)
    (result,) = run_campaign(spec, tmp_path, lambda _: None)
    assert [(step.point, step.trouble) for step in result.steps if not step.is_fine] == []
    assert len(result.steps) == steps
    assert result.frames >= 3
    assert result.strays == 0


@pytest.fixture
def armed(monkeypatch: pytest.MonkeyPatch, point: Failpoint) -> Iterator[Trap]:
    trap = Trap(point, 2, "full", 2)
    monkeypatch.setattr(failpoints, "_ARMED", [trap])
    return trap


def writes_of(part: Part) -> list[Failpoint]:
    return [point for point, spot in TABLE.items() if spot.is_write and spot.part is part]


def write_single(daemon: DaemonUnderTest, image: bytes, text: bytes) -> None:
    daemon.until(lambda: not list(daemon.watch.iterdir()))
    (daemon.watch / "R.jpg").write_bytes(image)
    (daemon.watch / "R.txt").write_bytes(text)


@pytest.mark.parametrize("point", writes_of(Part.DAEMON))
def test_the_daemon_goes_on_when_there_is_room(tmp_path: Path, armed: Trap, point: Failpoint) -> None:
    daemon = make_daemon(tmp_path, layout="single")
    text = TEXT.format(wd=9500.0, sample="a").encode()
    with daemon.running():
        write_single(daemon, jpeg(1), text)
        write_single(daemon, b"no image at all", text)
        write_single(daemon, jpeg(2), text.replace(b"9500", b"nan"))
        write_single(daemon, jpeg(3), text)
        daemon.until(lambda: len(daemon.actions()) == 3 and len(daemon.reasons()) == 2)
        daemon.until(lambda: armed.reached >= armed.hit + armed.times)
    assert [action.seq for action in daemon.actions()] == [1, 2, 3]
    assert not list(daemon.watch.iterdir())
    said = daemon.events("health.unwritten" if point is Failpoint.DAEMON_HEALTH else "storage.failed")
    assert said
    assert all("the disk is full: make room" in str(event["reason"]) for event in said)


@pytest.mark.parametrize("point", writes_of(Part.MIDDLE_CLIENT))
def test_the_middle_client_goes_on_when_there_is_room(
    tmp_path: Path, armed: Trap, point: Failpoint, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "actions").mkdir()
    settings = MiddleClientSettings(tmp_path / "actions", tmp_path / "state")
    for seq in (1, 2, 3):
        publish(settings.action_directory, make_action(seq))
    with serving(lambda _: "ack") as sem, running(with_port(settings, sem.port)):
        wait_for(lambda: seqs_in(settings, "sent") == [1, 2, 3])
        wait_for(lambda: armed.reached >= armed.hit + armed.times)
    assert sem.applied == [1, 2, 3]
    assert len(sem.messages) == 3, "what the SEM has acknowledged is not sent again for want of room"
    assert capfd.readouterr().err.count(f"failpoint {armed} springs") == armed.times
