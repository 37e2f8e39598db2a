"""Training that starts from an actor and learns from recorded transitions as well."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from harness.toy_control import CONFIG, QUIET, Toy

from semd.control.actor_weights import actor_bytes, load_actor
from semd.control.networks import Actor
from semd.errors import TrainingError
from semd.training.control.actor_evaluation import evaluate
from semd.training.control.control_settings import ControlTrainingConfig
from semd.training.control.control_training import CURVE, LAST, ControlTrainingResult, train_control
from semd.training.control.ddpg import Ddpg
from semd.training.control.experience import Experience
from semd.training.control.replay_buffer import ReplayBatch

RECORDS = replace(CONFIG, records_share=0.25, critic_first_updates=32)


def recorded(count: int = 12, size: int = 10) -> Experience:
    rng = np.random.default_rng(4)
    states = rng.normal(size=(2, count, size)).astype(np.float32)
    actions = rng.uniform(-0.4, 0.4, (count, 3)).astype(np.float32)
    return Experience(states[0], actions, rng.uniform(0, 10, count), states[1], rng.random(count) < 0.3)


def starting(n_frames: int = 1, rho: float = 0.2) -> Actor:
    actor = Actor(n_frames, rho, torch.Generator().manual_seed(99))
    return load_actor(actor_bytes(actor))


def train(
    run_dir: Path, config: ControlTrainingConfig = RECORDS, *, resume: bool = False, **extra: object
) -> ControlTrainingResult:
    return train_control(
        config,
        Toy(config.n_envs, 1),
        lambda policy: evaluate(policy, Toy(8, 2)),
        run_dir,
        resume=resume,
        console=QUIET,
        **{"start": starting(), "experience": recorded(), **extra},
    )


def test_two_trainings_with_one_seed_are_identical_and_the_records_matter(tmp_path: Path) -> None:
    for name in ("one", "two"):
        train(tmp_path / name)
    for name in (LAST, CURVE):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    train(tmp_path / "other", experience=replace(recorded(), rewards=recorded().rewards + 1.0))
    assert (tmp_path / "other" / LAST).read_bytes() != (tmp_path / "one" / LAST).read_bytes()


def test_a_training_that_broke_off_keeps_its_records(tmp_path: Path) -> None:
    train(tmp_path / "run", replace(RECORDS, max_frames=192))
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    # The weights of a resumed training are the checkpoint's, not the start's.
    one = train(tmp_path / "run", resume=True)
    train(tmp_path / "copy", resume=True, start=None)
    assert one.updates == 65
    assert (tmp_path / "run" / LAST).read_bytes() == (tmp_path / "copy" / LAST).read_bytes()
    with pytest.raises(TrainingError, match="records_share"):
        train(tmp_path / "copy", replace(RECORDS, records_share=0.5), resume=True)


def test_a_checkpoint_from_before_records_can_be_resumed(tmp_path: Path) -> None:
    plain = replace(CONFIG, max_frames=192)
    train(tmp_path, plain, start=None, experience=None)
    progress = tmp_path / "checkpoint" / "progress.json"
    text = progress.read_text().replace('"critic_first_updates": 0, ', "").replace('"records_share": 0.0, ', "")
    assert "records_share" not in text
    progress.write_text(text)
    assert train(tmp_path, CONFIG, resume=True, start=None, experience=None).updates == 65


def test_the_critic_learns_first(tmp_path: Path) -> None:
    result = train(tmp_path, replace(RECORDS, critic_first_updates=1_000))
    assert (result.updates, result.last_path.read_bytes()) == (65, actor_bytes(starting()))
    learned = train(tmp_path / "learned").last_path.read_bytes()
    assert learned != actor_bytes(starting())


def test_an_update_of_the_critic_alone() -> None:
    learner = Ddpg(RECORDS, torch.Generator().manual_seed(1))
    learner.start_from(starting())
    critic = {name: value.clone() for name, value in learner.critic.state_dict().items()}
    found = recorded(16)
    ones = np.ones(16, np.float32)
    batch = ReplayBatch(
        np.arange(16), found.states, found.actions, found.rewards.astype(np.float32), found.next_states, 0 * ones, ones
    )
    learner.update(batch, critic_only=True)
    assert actor_bytes(learner.actor) == actor_bytes(learner.target_actor) == actor_bytes(starting())
    assert not torch.equal(critic["layers.0.weight"], learner.critic.state_dict()["layers.0.weight"])


def test_the_anchor_holds_the_actor_where_it_began() -> None:
    """The same updates, with and without: the step an actor would take strays less the heavier the anchor."""
    found = recorded(16)
    ones = np.ones(16, np.float32)
    batch = ReplayBatch(
        np.arange(16), found.states, found.actions, found.rewards.astype(np.float32), found.next_states, 0 * ones, ones
    )

    def strayed(anchor: float) -> float:
        config = replace(RECORDS, anchor=anchor)
        learner = Ddpg(config, torch.Generator().manual_seed(1))
        learner.start_from(starting())
        for _ in range(40):
            learner.update(batch)
        began = starting()(torch.from_numpy(found.states)).numpy()
        return float(np.abs(learner.act(found.states) - began).mean())

    free, held, tight = strayed(0.0), strayed(10.0), strayed(1000.0)
    assert free > 2 * held > 4 * tight


@pytest.mark.parametrize(
    ("config", "extra", "message"),
    [
        (RECORDS, {"experience": None}, "no recorded transitions"),
        (RECORDS, {"experience": recorded(size=20)}, "states of 10"),
        (RECORDS, {"experience": recorded(count=0)}, "shapes"),
        (replace(RECORDS, records_share=0.0), {}, "between 0 and 1"),
        (RECORDS, {"start": starting(n_frames=2)}, "N = 2"),
        (RECORDS, {"start": starting(rho=0.1)}, "rho = 0.1"),
    ],
)
def test_what_does_not_fit_is_refused(
    config: ControlTrainingConfig, extra: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=message):
        train(tmp_path, config, **extra)


def test_transitions_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "experience.npz"
    recorded().save(path)
    again = Experience.load(path)
    for name in Experience.__dataclass_fields__:
        assert np.array_equal(getattr(again, name), getattr(recorded(), name))
        assert getattr(again, name).dtype == getattr(recorded(), name).dtype
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(TrainingError, match=r"experience\.npz"):
        Experience.load(path)
    with pytest.raises(TrainingError, match=r"experience\.npz"):
        Experience.load(tmp_path / "nowhere" / "experience.npz")
