"""Settings of the control machine's training, and the two presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from semd.decision.rules import RunRules
from semd.domain.exposure import ExposureRange
from semd.domain.reward import PAPER_WEIGHTS, RewardWeights

Preset = Literal["default", "paper"]

WEIGHTS = RewardWeights()
AIM = ExposureRange(max_clipped=0.012, min_level=70.0, max_level=185.0, min_contrast=115.0)
"""The exposure to aim at in training: narrower than what ends a run, whose edge noise and blur move."""


@dataclass(frozen=True, slots=True)
class ControlTrainingConfig:
    """Settings of the training; the attributes carry the paper's letters where it has one.

    Attributes:
        n_envs: microscopes that step together.
        max_frames: frames to take in all; training ends when either this or `episodes` is reached.
        episodes: E, finished episodes, or None for no limit.
        time_limit: T, steps of an episode.
        n_frames: N of (3).
        rho: largest step as a fraction of U - L, (5).
        lr_actor: learning rate of the actor at the start.
        lr_critic: learning rate of the critic at the start.
        lr_end_factor: both rates fall along half a cosine to this fraction of their start.
        gamma: discount of (7).
        tau: share of the online weights in (15).
        sigma: standard deviation of (10)'s noise as a fraction of the bound.
        epsilon_start: probability of acting greedily at the start, (10).
        epsilon_end: the same at the end of its rise.
        epsilon_share: share of the training after which epsilon has risen.
        kappa: exponent of the priority, (11).
        zeta: exponent of the importance weight, (12).
        batch_size: transitions of an update.
        buffer_size: transitions kept.
        warmup_frames: frames before the first update, taken with actions at random.
        updates_per_step: updates after each step of all microscopes.
        critic_first_updates: updates at the start that leave the actor alone: where it has learned before, a
            critic that has not would only spoil it.
        anchor: cost of the squared distance, in bounds, from the actions of the actor started from: where the
            critic has little to say the actor stays what it was.
        records_share: share of each batch drawn from recorded transitions; 0 where there are none.
        accept_score: a score above it ends an episode; higher than omega, for a run is not ended by a score that
            passes by less than its own error.
        weights: c1, c2 and the exposure's weight in (6).
        aim: the exposure that counts as good in training.
        reward_offset: taken from (6) before scaling, so that every further step costs.
        reward_scale: (6) is divided by it.
        success_bonus: added, after scaling, when an episode passes on a frame that is good by the truth: a
            lucky score on a frame that is not is no success.
        evaluate_every: updates between two evaluations.
        evaluate_episodes: episodes of an evaluation.
        checkpoint_every: updates between two checkpoints.
        seed: of everything.
        threads: threads torch may use.
    """

    n_envs: int = 64
    max_frames: int = 960_000
    episodes: int | None = None
    time_limit: int = 30
    n_frames: int = 5
    rho: float = 0.2
    lr_actor: float = 1e-4
    lr_critic: float = 5e-4
    lr_end_factor: float = 0.1
    gamma: float = 0.6
    tau: float = 0.005
    sigma: float = 0.25
    epsilon_start: float = 0.2
    epsilon_end: float = 0.8
    epsilon_share: float = 0.6
    kappa: float = 0.7
    zeta: float = 0.4
    batch_size: int = 256
    buffer_size: int = 200_000
    warmup_frames: int = 6_400
    updates_per_step: int = 1
    critic_first_updates: int = 0
    anchor: float = 0.0
    records_share: float = 0.0
    accept_score: float = 9.25
    weights: RewardWeights = WEIGHTS
    aim: ExposureRange = AIM
    reward_offset: float = 11.0
    reward_scale: float = 10.0
    success_bonus: float = 1.0
    evaluate_every: int = 500
    evaluate_episodes: int = 512
    checkpoint_every: int = 500
    seed: int = 20
    threads: int = 1

    def rules(self) -> RunRules:
        """The rules to train by: the default ones with these settings' N, rho, omega, reward and exposure to aim at."""
        return RunRules(
            n_frames=self.n_frames,
            rho=self.rho,
            accept_score=self.accept_score,
            weights=self.weights,
            exposure=self.aim,
        )


DEFAULT = ControlTrainingConfig()

PAPER = ControlTrainingConfig(
    n_envs=1,
    max_frames=25_000,
    episodes=500,
    time_limit=50,
    lr_actor=3e-6,
    lr_critic=1e-4,
    lr_end_factor=1.0,
    gamma=0.25,
    tau=0.001,
    sigma=0.25,
    epsilon_start=0.2,
    epsilon_end=0.99,
    epsilon_share=1.0,
    kappa=0.7,
    zeta=0.4,
    batch_size=64,
    buffer_size=25_000,
    warmup_frames=64,
    accept_score=9.0,
    weights=PAPER_WEIGHTS,
    aim=ExposureRange(),
    reward_offset=0.0,
    reward_scale=1.0,
    success_bonus=0.0,
    evaluate_every=2_500,
    checkpoint_every=2_500,
)
"""The published values. N, rho and the batch size are not published: the default's N and rho, and 64."""

PRESETS: dict[Preset, ControlTrainingConfig] = {"default": DEFAULT, "paper": PAPER}
