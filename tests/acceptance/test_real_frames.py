"""The shipped scoring machine on real micrographs, where they are at hand; they are not part of the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from semd.evaluation.score.real_frames import IN_FOCUS_SCORE, RealFrames, evaluate_real
from semd.model_store import default_directory, load_model
from semd.scoring.scorer import Scorer

REAL = Path(__file__).resolve().parents[3] / "shared" / "realsem"

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="no real micrographs beside the project (../shared/realsem)")


@pytest.fixture(scope="module")
def found() -> RealFrames:
    scorer = Scorer.load(load_model(default_directory(), "scorer").data)
    return evaluate_real(REAL, scorer, lambda steps, _: steps)


def test_every_crop_of_the_focus_triple_is_put_in_order(found: RealFrames) -> None:
    assert [triple.crop for triple in found.triples if not triple.ordered] == []
    assert len(found.triples) == 9


def test_frames_in_focus_are_called_sharp(found: RealFrames) -> None:
    assert {series.name: series.scores[0] for series in found.series if series.scores[0] < IN_FOCUS_SCORE} == {}
    assert len(found.series) == 8


def test_blurring_lowers_every_score(found: RealFrames) -> None:
    assert {series.name: series.scores for series in found.series if not series.falls_strictly} == {}
