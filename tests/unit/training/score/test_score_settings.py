"""Presets of the training, and configurations that are refused."""

from __future__ import annotations

import pytest

from semd.errors import ConfigError
from semd.training.score.score_settings import ScoreTrainingConfig, Stage, preset


def test_the_paper_preset_is_the_papers() -> None:
    paper = preset("paper")
    assert (paper.optimiser, paper.learning_rate, paper.momentum) == ("sgd", 2e-4, 0.9)
    assert paper.stages == (Stage(240, 320, 1, 100),)
    assert paper.target == "label"
    assert not paper.photometric


@pytest.mark.parametrize(
    "make",
    [
        lambda: preset("best"),
        lambda: ScoreTrainingConfig(stages=(Stage(64, 320, 1, 1),)),
        lambda: ScoreTrainingConfig(photometric=1.5),
        lambda: ScoreTrainingConfig(photometric_noise=-0.1),
        lambda: ScoreTrainingConfig(stages=(Stage(8, 320, 1, 1),)),
        lambda: ScoreTrainingConfig(learning_rate=0.0),
        lambda: ScoreTrainingConfig(heads_passes=0),
        lambda: ScoreTrainingConfig(heads_rate=0.0),
    ],
)
def test_impossible_configurations_are_refused(make: object) -> None:
    with pytest.raises(ConfigError):
        make()  # type: ignore[operator]


def test_stages_follow_one_another() -> None:
    config = ScoreTrainingConfig(stages=(Stage(128, 160, 4, 2), Stage(240, 320, 4, 1)))
    assert [config.stage_of(epoch).height_px for epoch in range(config.epochs)] == [128, 128, 240]
    with pytest.raises(IndexError):
        config.stage_of(3)
