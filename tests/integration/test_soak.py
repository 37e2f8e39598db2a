"""A few hundred frames of the soak: real processes, real socket, faults of every kind, and kills."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from semd.campaigns.soak.soak import SoakSpec, run_soak


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_a_flood_with_faults_and_kills_loses_nothing(tmp_path: Path) -> None:
    seen: list[int] = []
    spec = SoakSpec(
        frames=300, seed=11, writer_faults=0.06, link_faults=0.01, kills=2, sample_s=0.1, directory=tmp_path / "soak"
    )
    report = run_soak(spec, seen.append)
    assert (report.stalled, report.interrupted, report.kills) == ("", False, 2)
    assert (report.fates.written, report.fates.ended) == (300, 300)
    assert (report.fates.lost, report.fates.duplicated) == ((), ())
    assert seen == sorted(seen)
    assert seen[-1] == 300
    assert sum(report.writer_faults.values()) > 5
    assert {sample.process for sample in report.samples} == {"daemon", "middle client"}
    assert len({sample.pid for sample in report.samples}) == 4
    report.save(tmp_path / "out")
    with (tmp_path / "out" / "samples.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(report.samples)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_ctrl_c_tells_what_is_known(tmp_path: Path) -> None:
    def interrupt(ended: int) -> None:
        if ended >= 10:
            raise KeyboardInterrupt

    report = run_soak(SoakSpec(frames=5000, directory=tmp_path / "soak"), interrupt)
    assert report.interrupted
    assert not report.passed
    assert report.fates.ended >= 10
    assert "interrupted" in report.as_text()
