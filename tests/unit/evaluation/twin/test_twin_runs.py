"""Runs on the twin by the daemon's rules: what they see is the twin's own, and they are counted right."""

from __future__ import annotations

import numpy as np
import pytest

from semd.decision.rules import RunRules
from semd.domain.axes import Axis
from semd.evaluation.control.table_one import simulator_rules
from semd.evaluation.twin.twin_runs import play_on_twin
from semd.simulator.twin_microscopes import TwinMicroscopes
from semd.simulator.twin_scene import SceneRanges

RULES = simulator_rules(5, 0.2)
CLEAN = SceneRanges(score_noise=0.0, score_bias=0.0, score_bias_low=0.0, wd_only_share=0.0)


def untracked(steps, total):
    return steps


def test_what_is_read_back_is_what_was_asked_for() -> None:
    stand = TwinMicroscopes(3, RULES, 1)
    stand.scan()
    stand.apply(1, {Axis.WD: 15.12345, Axis.BRIGHTNESS: 41.23456})
    stand.scan()
    now = stand.observation(1, "f").parameters
    assert (now.wd_mm, now.brightness) == (15.1235, 41.235)
    other = stand.observation(0, "f").parameters
    assert other.wd_mm == 15.0


def test_the_features_on_the_networks_scale_are_the_twins() -> None:
    stand = TwinMicroscopes(4, RULES, 2)
    stand.scan()
    frames = stand._frames
    for row in range(4):
        measured = stand.observation(row, "f").measurement
        assert measured is not None
        assert measured.features.avg_normalised == pytest.approx(frames.avg[row])
        assert measured.features.grd_normalised == pytest.approx(frames.grd[row])
        assert measured.features.var_normalised == pytest.approx(frames.var[row])
        assert measured.sigma > 0.0


def faultless(count: int, rules: RunRules, seed: int) -> TwinMicroscopes:
    """Microscopes that stand where they are told, and a scoring machine that is always right."""
    stand = TwinMicroscopes(count, rules, seed, CLEAN)
    for name in ("backlash_u", "drift_u", "score_wave", "score_exposure"):
        getattr(stand.scenes, name)[:] = 0.0
    return stand


def test_a_policy_that_rests_ends_nothing_worse_than_it_began() -> None:
    found, again = (
        play_on_twin(lambda _: np.zeros(3, np.float32), RULES, TwinMicroscopes(200, RULES, 3), untracked)
        for _ in range(2)
    )
    assert found.worse_than_start == 0
    assert found.success < 0.1
    assert found.median_frames >= RULES.patience_steps + 1
    assert again == found


def test_a_wandering_policy_that_gives_up_goes_back() -> None:
    rng = np.random.default_rng(4)
    rules = RunRules(max_steps=12, patience_steps=4, limits=RULES.limits)
    stand = faultless(200, rules, 5)
    found = play_on_twin(lambda _: rng.uniform(-0.4, 0.4, 3).astype(np.float32), rules, stand, untracked)
    # A scorer without error and the rules leave no way to end worse.
    assert found.worse_than_start == 0
    assert found.p95_frames <= 13
