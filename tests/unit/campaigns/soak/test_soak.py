"""The soak's verdicts: fates of frames and growth of processes, by hand-worked cases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from semd.campaigns.soak.processes import CLIENT, DAEMON, ProcessSample
from semd.campaigns.soak.soak import SoakSpec, run_soak
from semd.campaigns.soak.soak_report import SoakReport, growth_of
from semd.campaigns.soak.soak_sem import SoakFates, SoakSem, number_of
from semd.errors import ConfigError
from semd.protocol.action import Action, Status

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def action(number: int, identity: str) -> Action:
    return Action(identity * 32, 1, f"frame-{number:06d}", Status.HOLD, 2000.0, {}, {}, 5.0, None, 0, NOW, NOW)


def samples(
    resident: list[float], *, process: str = DAEMON, handles: list[int] | None = None, pid: int = 1
) -> list[ProcessSample]:
    count = len(resident)
    return [
        ProcessSample(
            index, index * 100 // count, process, pid, mb, (handles or [12] * count)[index], 5, 5000 + 1000 * index
        )
        for index, mb in enumerate(resident)
    ]


def of(found: tuple, process: str, what: str) -> object:
    (growth,) = [growth for growth in found if (growth.process, growth.what) == (process, what)]
    return growth


def test_growth_is_that_after_the_warm_up() -> None:
    found = growth_of(samples([10.0] * 8 + [100.0] * 32), 100)
    growth = of(found, DAEMON, "resident_mb")
    assert (growth.before, growth.after, growth.share) == (100.0, 100.0, 0.0)
    assert all(growth.is_flat for growth in found)


def test_a_twentieth_more_is_growth() -> None:
    leaking = [100.0 + 0.2 * index for index in range(50)]
    growth = of(growth_of(samples(leaking), 100), DAEMON, "resident_mb")
    # Samples 10..49 count: quarters 10..19 and 40..49.
    assert (growth.before, growth.after) == pytest.approx((102.9, 108.9))
    assert growth.share == pytest.approx(6.0 / 102.9)
    assert not growth.is_flat


def test_one_handle_more_is_growth() -> None:
    found = growth_of(samples([100.0] * 40, handles=[12] * 30 + [13] * 10), 100)
    assert not of(found, DAEMON, "handles").is_flat


def test_the_ledger_may_grow_by_as_much_for_each_frame_and_no_more() -> None:
    flat = samples([100.0] * 50)
    ledger = of(growth_of(flat, 100), "ledger", "bytes for each frame")
    assert (ledger.before, ledger.after) == pytest.approx((500.0, 500.0))
    steep = [replace(sample, ledger_bytes=sample.ledger_bytes + 500 * max(0, int(sample.at_s) - 30)) for sample in flat]
    assert not of(growth_of(steep, 100), "ledger", "bytes for each frame").is_flat


def test_of_a_killed_process_the_longest_life_counts() -> None:
    lives = samples([100.0] * 50)
    lives = [replace(sample, pid=2, resident_mb=50.0) if sample.at_s < 15 else sample for sample in lives]
    growth = of(growth_of(lives, 100), DAEMON, "resident_mb")
    assert (growth.before, growth.after) == (100.0, 100.0)


def test_few_samples_tell_nothing() -> None:
    assert growth_of([], 100) == ()
    assert growth_of(samples([100.0] * 8), 100) == ()
    assert growth_of([*samples([100.0] * 40), *samples([9.0] * 5, process=CLIENT)], 100) == ()


def sem_with(tmp_path: Path, ends: list[str]) -> SoakSem:
    sem = SoakSem(tmp_path, tmp_path / "quarantine", seed=0, writer_faults=0.0, window=4)
    sem.written = len(ends)
    sem._writer.ends.update(enumerate(ends))  # type: ignore[arg-type]
    (tmp_path / "quarantine").mkdir()
    return sem


def test_every_frame_that_ends_once_is_well(tmp_path: Path) -> None:
    sem = sem_with(tmp_path, ["answered", "held", "quarantined"])
    for number, identity in ((0, "a"), (1, "b")):
        sem.on_action(action(number, identity))
    for number in (1, 2):
        (tmp_path / "quarantine" / f"ab12~frame-{number:06d}.jpg.reason.txt").touch()
    sem.look()
    assert sem.fates() == SoakFates(written=3, ended=3, lost=(), duplicated=(), otherwise=0)
    assert sem.ended == 3


def test_what_never_ends_is_lost_and_what_ends_twice_is_duplicated(tmp_path: Path) -> None:
    sem = sem_with(tmp_path, ["answered", "answered", "quarantined", "held"])
    for number, identity in ((1, "a"), (1, "b"), (3, "c")):
        sem.on_action(action(number, identity))
    fates = sem.fates()
    assert (fates.lost, fates.duplicated, fates.otherwise) == ((0, 2), (1,), 1)


def test_the_verdict_needs_all_of_it() -> None:
    fates = SoakFates(10, 10, (), (), 0)
    report = SoakReport(
        frames=10, fates=fates, seconds=2.0, interrupted=False, stalled="", kills=0, writer_faults={}, link_faults={},
        growth=growth_of(samples([100.0] * 40), 100), samples=(),
    )  # fmt: skip
    assert report.passed
    assert report.as_json()["frames_per_second"] == 5.0
    assert not replace(report, growth=()).passed
    assert not replace(report, frames=11).passed
    assert not replace(report, fates=replace(fates, lost=(3,))).passed
    assert not replace(report, fates=replace(fates, duplicated=(3,))).passed
    assert "passed" in report.as_text()


def test_names_that_are_none_of_ours() -> None:
    assert number_of("frame-000012") == 12
    assert number_of("ResponseImage") == -1


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(ConfigError, match="not empty"):
        run_soak(SoakSpec(frames=1, directory=tmp_path), lambda _: None)
