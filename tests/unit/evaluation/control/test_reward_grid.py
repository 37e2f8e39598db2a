"""The reward over brightness and contrast at focus: what is counted, and what an honest scorer makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semd.domain.frame_score import FrameScore
from semd.evaluation.control.reward_grid import WEIGHTS, RewardFindings, RewardGrid, evaluate_reward
from semd.training.control.control_settings import AIM


class InFocus:
    """A scoring machine that sees focus alone, as experts do."""

    def judge(self, image: np.ndarray, magnification: float) -> FrameScore:
        return FrameScore(9.8)


def grid(best: tuple[int, int]) -> RewardGrid:
    rewards = np.zeros((3, 3))
    rewards[best] = 1.0
    good = np.zeros((3, 3), bool)
    good[1, 1] = True
    return RewardGrid("grid", 2000, 0, np.array([-10.0, 0.0, 10.0]), good, dict.fromkeys(WEIGHTS, rewards))


def test_the_best_reward_by_hand() -> None:
    assert grid((1, 1)).best_is_good("semd")
    assert grid((1, 1)).best_offset("semd") == (0.0, 0.0)
    assert not grid((0, 2)).best_is_good("semd")
    assert grid((0, 2)).best_offset("semd") == (-10.0, 10.0)
    assert RewardFindings((grid((1, 1)), grid((0, 2)))).shares()["semd"] == 0.5


@pytest.mark.parametrize("sample", ["tinball", "grid"])
def test_with_a_scorer_that_sees_focus_alone_our_best_reward_is_a_good_picture(sample: str, tmp_path: Path) -> None:
    found = evaluate_reward(InFocus(), [(sample, 2000, 1)], 9, AIM, lambda fields: fields)
    assert found.shares()["semd"] == 1.0
    # VAR alone pays for over-contrast: the published form goes to the grid's rim.
    assert found.grids[0].best_offset("paper's form")[1] == 40.0
    assert found.shares()["paper's form"] == 0.0
    found.save(tmp_path)
    assert (tmp_path / "reward.png").read_bytes().startswith(b"\x89PNG")
    assert "share of 1 fields" in (tmp_path / "reward.txt").read_text()
