"""Fine-tuning the heads: better where there was something to learn, the rest untouched."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from semd.datasets.dataset import LabelledFrames
from semd.errors import ConfigError, TrainingError
from semd.scoring.network import Architecture, ScoringNetwork, with_spectrum
from semd.scoring.spectrum import SPECTRUM_VALUES
from semd.training.score import feature_cache as lesson
from semd.training.score import finishing
from semd.training.score.finetune import FineTuning, HeadFrames, fine_tune
from semd.training.score.score_settings import ScoreTrainingConfig, preset
from semd.training.score.validation import NetworkOutputs

FORM = Architecture(height_px=240, width_px=320, replicas=3)


@pytest.fixture(scope="module")
def network() -> ScoringNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return ScoringNetwork(FORM).eval()


def frames_off_by(network: ScoringNetwork, points: float, count: int = 40) -> HeadFrames:
    rng = np.random.default_rng(2)
    features = torch.from_numpy(rng.gamma(2.0, 1.0, (count, network.features)).astype(np.float32))
    magnification = torch.from_numpy(rng.choice([500.0, 2000.0], count).astype(np.float32))
    with torch.no_grad():
        said = network.score_features(features, magnification).scores.mean(dim=1)
    return HeadFrames(features, magnification, said + points, torch.ones(count))


def rmse(network: ScoringNetwork, frames: HeadFrames) -> float:
    with torch.no_grad():
        said = network.score_features(frames.features, frames.magnification).scores.mean(dim=1)
    return float((said - frames.target).square().mean().sqrt())


def test_a_biased_network_is_set_right(network: ScoringNetwork) -> None:
    frames = frames_off_by(network, 2.0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    tuned = fine_tune(network, frames, FineTuning())
    assert rmse(network, frames) == pytest.approx(2.0, abs=1e-3)
    assert rmse(tuned, frames) < 0.8
    # The network that was given is as it was, and so is everything but the heads in the new one.
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    changed = {name.split(".")[0] for name, value in tuned.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"layers", "expected_error"}


def test_the_same_seed_gives_the_same_heads(network: ScoringNetwork) -> None:
    frames = frames_off_by(network, 1.0)
    one, same, other = (fine_tune(network, frames, FineTuning(steps=5, seed=seed)).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_frames_that_weigh_nothing_teach_nothing(network: ScoringNetwork) -> None:
    frames = frames_off_by(network, 2.0)
    half = torch.tensor([1.0, 0.0] * 20)
    wrong = torch.where(half > 0, frames.target, frames.target - 8.0)
    tuned = fine_tune(network, HeadFrames(frames.features, frames.magnification, wrong, half), FineTuning())
    with torch.no_grad():
        said = tuned.score_features(frames.features, frames.magnification).scores.mean(dim=1)
    assert float((said - wrong)[half > 0].abs().mean()) < 0.8


def test_attachment_holds_the_heads_back(network: ScoringNetwork) -> None:
    frames = frames_off_by(network, 2.0)
    loose, tight = (fine_tune(network, frames, FineTuning(steps=60, attachment=cost)) for cost in (0.0, 1e4))
    assert rmse(loose, frames) < rmse(tight, frames)


def test_the_rate_rises_to_its_highest_and_falls_to_nothing() -> None:
    tuning = FineTuning(steps=100, learning_rate=0.5, warm_up=0.2)
    rates = [tuning.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.5 / 21)
    assert rates[20] == max(rates) == 0.5
    assert rates[60] == pytest.approx(0.25)
    assert rates[99] == pytest.approx(0.25 * (1 + math.cos(math.pi * 79 / 80)))
    assert FineTuning(steps=10, learning_rate=0.5).rate_at(0) == 0.5


@pytest.mark.parametrize("learns", [False, True])
def test_the_reader_of_the_spectrum_learns_where_it_is_asked_to(network: ScoringNetwork, *, learns: bool) -> None:
    grown = with_spectrum(network).eval()
    rng = np.random.default_rng(3)
    frames = frames_off_by(network, 0.0)
    spectra = torch.from_numpy(rng.normal(0.0, 1.0, (len(frames.target), SPECTRUM_VALUES)).astype(np.float32))
    # What is to be learned stands in the spectrum alone.
    target = frames.target + 3.0 * spectra[:, 100]
    lesson = HeadFrames(torch.cat([frames.features, spectra], dim=1), frames.magnification, target, frames.weight)
    tuned = fine_tune(grown, lesson, FineTuning(steps=60, attachment=0.0, spectrum=learns))
    before, after = grown.state_dict(), tuned.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"layers", "expected_error"} | ({"spectrum"} if learns else set())
    assert rmse(tuned, lesson) < 0.7 * rmse(grown, lesson)


def test_what_is_learned_of_a_spectrum_holds_in_a_mirror_as_well(network: ScoringNetwork) -> None:
    grown = with_spectrum(network).eval()
    count = 300
    spectra = torch.from_numpy(np.random.default_rng(4).normal(0.0, 1.0, (count, SPECTRUM_VALUES)).astype(np.float32))
    # The third sector of eight, whose mirror image is the fifth; nothing else tells the frames apart.
    target = 5.0 + 3.0 * spectra[:, 99]
    seen = torch.cat([torch.zeros(count, network.features), spectra], dim=1)
    lesson = HeadFrames(seen, torch.full((count,), 500.0), target, torch.ones(count))
    tuned = fine_tune(grown, lesson, FineTuning(steps=60, learning_rate=3e-3, attachment=0.0, spectrum=True))
    in_a_mirror = replace(lesson, features=grown.mirrored(seen))
    assert torch.equal(in_a_mirror.features[:, network.features + 101], spectra[:, 99])
    assert rmse(tuned, in_a_mirror) < 0.6 * rmse(grown, in_a_mirror)


def test_what_cannot_be_done_is_refused(network: ScoringNetwork) -> None:
    for wrong in ({"steps": 0}, {"learning_rate": 0.0}, {"attachment": -1.0}, {"warm_up": 1.0}, {"weight_decay": -0.1}):
        with pytest.raises(ConfigError):
            FineTuning(**wrong)  # type: ignore[arg-type]
    nothing = HeadFrames(torch.empty(0, network.features), torch.empty(0), torch.empty(0), torch.empty(0))
    with pytest.raises(TrainingError, match="no frames"):
        fine_tune(network, nothing, FineTuning())
    frames = frames_off_by(network, float("nan"))
    with pytest.raises(TrainingError, match="loss"):
        fine_tune(network, frames, FineTuning())


def test_finishing_helps_on_unseen_frames_or_leaves_the_heads_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(11)
    network = ScoringNetwork(Architecture(height_px=32, width_px=32, replicas=3)).eval()
    rng = np.random.default_rng(12)
    score = rng.uniform(1, 10, 60).astype(np.float32)
    frames = blank_frames(score)
    # Features that tell the score in one place, as a well-trained backbone's would.
    features = torch.from_numpy(rng.normal(0, 0.3, (60, 512)).astype(np.float32))
    features[:, 7] += torch.from_numpy(score)

    def forward_rows(
        asked: ScoringNetwork, _frames: LabelledFrames, rows: np.ndarray, **_how: object
    ) -> NetworkOutputs:
        with torch.no_grad():
            answer = asked.score_features(features[rows], torch.full((len(rows),), 1000.0))
        return NetworkOutputs(features[rows], *answer)

    monkeypatch.setattr(lesson, "forward_rows", forward_rows)
    trained, unseen = np.arange(40), np.arange(40, 60)
    config = ScoreTrainingConfig(bf16=False, heads_passes=400)
    before = (
        (forward_rows(network, frames, unseen).scores.mean(dim=1) - torch.from_numpy(score[unseen])).square().mean()
    )
    done = finishing.finish(network, frames, trained, unseen, tmp_path, config, progress=False)
    after = (forward_rows(done, frames, unseen).scores.mean(dim=1) - torch.from_numpy(score[unseen])).square().mean()
    assert after < before
    assert float(done.certainty.limit) < 1e6
    # Told the opposite of the truth, the heads are not taken over.
    wrong = replace(frames, score=np.where(np.arange(60) < 40, 11 - score, score).astype(np.float32))
    kept = finishing.finish(done, wrong, trained, unseen, tmp_path, config, progress=False)
    assert torch.equal(kept.layers[0].weight, done.layers[0].weight)


def test_weights_between_two_networks(network: ScoringNetwork) -> None:
    other = shifted(network, 2.0)
    found = finishing.between(network, other, 0.75).layers[-1].bias
    assert torch.allclose(found, network.layers[-1].bias + 1.5)
    same = finishing.between(network, other, 1.0).state_dict()
    assert all(torch.equal(value, same[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize(
    ("learned", "true", "outlier", "kept"),
    [
        (2.0, 2.0, 0.0, 2.0),  # what was learned is right
        (2.0, -1.0, 0.0, 0.0),  # it is wrong
        (4.0, 3.0, 0.0, 3.0),  # it goes too far: weights between
        (1.0, 1.0, -30.0, 1.0),  # one frame that nobody can judge does not decide
    ],
)
def test_what_does_best_on_unseen_frames_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learned: float, true: float, outlier: float, kept: float
) -> None:
    torch.manual_seed(13)
    network = ScoringNetwork(Architecture(height_px=32, width_px=32, replicas=3)).eval()
    features = torch.from_numpy(np.random.default_rng(14).gamma(2.0, 1.0, (60, 512)).astype(np.float32))
    with torch.no_grad():
        said = network.score_features(features, torch.full((60,), 1000.0)).scores.mean(dim=1).numpy()
    score = said + np.float32(true)
    score[59] += outlier
    monkeypatch.setattr(finishing, "cached_features", lambda _net, _frames, rows, *_where, **_how: features[rows])
    monkeypatch.setattr(finishing, "fine_tune", lambda net, *_lesson, **_how: shifted(net, learned))
    frames = blank_frames(score)
    rows = np.arange(60)
    done = finishing.finish(network, frames, rows[:40], rows[40:], tmp_path, ScoreTrainingConfig(), progress=False)
    assert torch.allclose(done.layers[-1].bias, network.layers[-1].bias + kept)


def test_other_surfaces_have_a_say_in_what_is_kept_and_none_in_how_sure_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(17)
    network = ScoringNetwork(Architecture(height_px=32, width_px=32, replicas=3)).eval()
    features = torch.from_numpy(np.random.default_rng(18).gamma(2.0, 1.0, (120, 512)).astype(np.float32))
    with torch.no_grad():
        said = network.score_features(features, torch.full((120,), 1000.0)).scores.mean(dim=1).numpy()
    monkeypatch.setattr(finishing, "cached_features", lambda _net, _frames, rows, *_where, **_how: features[rows])
    # The new heads say half a point more, which makes the ordinary frames no better: off by 0.05 to 0.45 to one side
    # before and to the other after. On the beads the old heads are off by two points.
    monkeypatch.setattr(finishing, "fine_tune", lambda net, *_lesson, **_how: shifted(net, 0.5))
    rows, is_beads = np.arange(120), np.arange(120) >= 80
    ordinary = np.random.default_rng(19).permutation(np.linspace(0.05, 0.45, 120))
    errors = np.where(is_beads, 2.0, ordinary).astype(np.float32)
    frames = blank_frames(said + errors)
    frames = replace(frames, sample=np.where(is_beads, "beads", frames.sample))
    done = finishing.finish(network, frames, rows[:40], rows[40:], tmp_path, ScoreTrainingConfig(), progress=False)
    assert torch.allclose(done.layers[-1].bias, network.layers[-1].bias + 0.5)
    with torch.no_grad():
        answer = done.score_features(features[40:80], torch.full((40,), 1000.0))
        sigma = done.certainty.sigma(*answer).numpy()
    off = np.abs(errors[40:80] - 0.5)
    # 68 % of the ordinary frames, not of all, lie within one standard deviation.
    assert abs((off < sigma).mean() - 0.683) < 0.03


def test_what_is_familiar_stays_where_only_the_heads_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(15)
    network = ScoringNetwork(Architecture(height_px=32, width_px=32, replicas=3)).eval()
    features = torch.from_numpy(np.random.default_rng(16).gamma(2.0, 1.0, (60, 512)).astype(np.float32))
    monkeypatch.setattr(finishing, "cached_features", lambda _net, _frames, rows, *_where, **_how: features[rows])
    frames, rows = blank_frames(np.linspace(1, 10, 60, dtype=np.float32)), np.arange(60)
    heads = replace(preset("heads"), heads_passes=1)
    assert not network.certainty.has_distance_limit
    first = finishing.finish(network, frames, rows[:40], rows[40:], tmp_path, heads, progress=False)
    assert first.certainty.has_distance_limit
    features += 5.0
    heads_again = finishing.finish(copy.deepcopy(first), frames, rows[:40], rows[40:], tmp_path, heads, progress=False)
    passes = replace(ScoreTrainingConfig(), heads_passes=1)
    all_again = finishing.finish(copy.deepcopy(first), frames, rows[:40], rows[40:], tmp_path, passes, progress=False)
    assert torch.equal(heads_again.certainty.centre, first.certainty.centre)
    assert torch.equal(heads_again.certainty.limit, first.certainty.limit)
    assert torch.all(all_again.certainty.centre > first.certainty.centre)


def shifted(network: ScoringNetwork, points: float) -> ScoringNetwork:
    """The same network, whose heads say so many points more."""
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.layers[-1].bias += points
    return other


def blank_frames(score: np.ndarray) -> LabelledFrames:
    """Frames in which nothing is seen, each of its own field, with these scores."""
    count = len(score)
    return LabelledFrames(
        images=np.zeros((count, 32, 32), np.uint8),
        field_id=np.arange(count),
        split=np.array(["train"] * count),
        image_split=np.array(["train"] * count),
        sample=np.array(["grid"] * count),
        magnification=np.full(count, 1000, np.float32),
        label=np.round(score).clip(1.0).astype(np.int64),
        score=score,
        variant=np.array(["normal"] * count),
        blur_px=np.zeros(count, np.float32),
        spec={},
    )
