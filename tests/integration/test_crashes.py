"""A few failpoints in real processes, by the code of `semd evaluate crashes`; and every full disk in this one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.daemon_process import TEXT, Bench, jpeg, make_bench
from harness.middle_client_process import make_action, publish, running, seqs_in, serving, wait_for, with_port

from semd.campaigns.crashes.crash_campaign import CampaignSpec, run_campaign
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
    spec = CampaignSpec(layouts=(layout,), dialects=(dialect,), points=points, modes=modes)
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


def write_single(bench: Bench, image: bytes, text: bytes) -> None:
    bench.until(lambda: not list(bench.watch.iterdir()))
    (bench.watch / "R.jpg").write_bytes(image)
    (bench.watch / "R.txt").write_bytes(text)


@pytest.mark.parametrize("point", writes_of(Part.DAEMON))
def test_the_daemon_goes_on_when_there_is_room(tmp_path: Path, armed: Trap, point: Failpoint) -> None:
    bench = make_bench(tmp_path, layout="single")
    text = TEXT.format(wd=9500.0, sample="a").encode()
    with bench.running():
        write_single(bench, jpeg(1), text)
        write_single(bench, b"no image at all", text)
        write_single(bench, jpeg(2), text.replace(b"9500", b"nan"))
        write_single(bench, jpeg(3), text)
        bench.until(lambda: len(bench.actions()) == 3 and len(bench.reasons()) == 2)
        bench.until(lambda: armed.reached >= armed.hit + armed.times)
    assert [action.seq for action in bench.actions()] == [1, 2, 3]
    assert not list(bench.watch.iterdir())
    said = bench.events("health.unwritten" if point is Failpoint.DAEMON_HEALTH else "storage.failed")
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
