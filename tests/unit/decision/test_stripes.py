"""Stripes along the scan: a second scan of the same settings tells the sample's own from charging."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from semd.decision.decide import decide
from semd.decision.rules import RunRules
from semd.decision.run import Decision, Reason, Run, advance
from semd.decision.stripes import without_own_stripes
from semd.domain.axes import Parameters
from semd.domain.exposure import Exposure
from semd.domain.features import Features
from semd.domain.frame_score import QualityFlag
from semd.domain.observation import Measurement, Observation
from semd.protocol.action import Status

RULES = RunRules()
WD_MM = 10.0


def drawn(seed: int) -> tuple[float, ...]:
    """Stripes as a scan may show them: grey levels of sixty groups of lines."""
    return tuple(np.random.default_rng(seed).normal(0.0, 8.0, 60).tolist())


def scan(stripes: tuple[float, ...], wd_mm: float = WD_MM, score: float = 9.8, *flags: QualityFlag) -> Observation:
    found = (QualityFlag.STRIPED, *flags) if stripes else flags
    measured = Measurement(
        score, Features(120.0, 1000.0, 900.0, 100), Exposure(0.0, 0.0, 120.0, 150.0), 0.1, found, stripes
    )
    return Observation("frame", Parameters(2000.0, wd_mm, 50.0, 50.0), measured)


def again(stripes: tuple[float, ...], noise_grey: float) -> tuple[float, ...]:
    """The same lines with the noise of another scan."""
    return tuple((np.array(stripes) + np.random.default_rng(9).normal(0.0, noise_grey, len(stripes))).tolist())


def doubts_of(*frames: Observation) -> list[tuple[QualityFlag, ...]]:
    return [seen.measurement.flags for seen in without_own_stripes(frames, RULES) if seen.measurement is not None]


def answers(*frames: Observation) -> list[Decision]:
    run: Run | None = None
    given = []
    for seen in frames:
        given.append(decide(run, seen, RULES, lambda _: np.zeros(3, np.float32)))
        run = advance(run, seen, given[-1])
    return given


def test_stripes_in_the_same_lines_again_are_the_samples() -> None:
    assert doubts_of(scan(drawn(1)), scan(again(drawn(1), 1.0))) == [(), ()]


@pytest.mark.parametrize("seed", range(2, 12))
def test_stripes_elsewhere_in_the_next_scan_are_charging(seed: int) -> None:
    assert doubts_of(scan(drawn(1)), scan(drawn(seed))) == [(QualityFlag.STRIPED,)] * 2


def test_charging_on_top_of_the_samples_own_stripes_is_not_overlooked() -> None:
    own = np.array(drawn(1))
    both = [scan(tuple((own + np.array(drawn(seed))).tolist())) for seed in (2, 3)]
    assert doubts_of(*both) == [(QualityFlag.STRIPED,)] * 2


def test_stripes_are_compared_whatever_the_settings() -> None:
    # Another contrast stretches them, another focus leaves them in their lines.
    stretched = tuple(1.7 * each + 4.0 for each in again(drawn(1), 1.0))
    assert doubts_of(scan(drawn(1)), scan(stretched, WD_MM + 0.1)) == [(), ()]


def test_other_doubts_stay_and_one_scan_tells_nothing() -> None:
    strange = scan(drawn(1), WD_MM, 9.8, QualityFlag.UNFAMILIAR)
    assert doubts_of(strange, scan(drawn(1))) == [(QualityFlag.UNFAMILIAR,), ()]
    assert doubts_of(scan(drawn(1))) == [(QualityFlag.STRIPED,)]


def test_frames_without_stripes_without_an_image_and_of_another_height_are_left_as_they_are() -> None:
    frames = (scan(()), replace(scan(drawn(1)), measurement=None), scan(drawn(1)), scan(drawn(1)[:30]))
    assert without_own_stripes(frames, RULES) == frames
    flat = (scan((0.0,) * 60), scan((0.0,) * 60))
    assert without_own_stripes(flat, RULES) == flat


def test_a_good_frame_of_a_striped_sample_is_held_once_and_then_done() -> None:
    first, second = answers(scan(drawn(1)), scan(again(drawn(1), 1.0)))
    assert (first.status, first.reason) == (Status.HOLD, Reason.DOUBTFUL)
    assert second.status is Status.DONE


def test_a_good_frame_under_charging_is_held_and_then_left_to_the_operator() -> None:
    given = answers(*(scan(drawn(seed)) for seed in range(5)))
    assert Status.DONE not in [each.status for each in given]
    assert (given[RULES.constants.max_holds].status, given[RULES.constants.max_holds].reason) == (
        Status.GIVE_UP,
        Reason.DOUBTFUL,
    )
