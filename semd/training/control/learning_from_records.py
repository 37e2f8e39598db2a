"""`semd train control --from-records`: the actor learns from the instrument's own runs and from the twin together.

What it was worth is told by the twin, before and after, on the same episodes, none of which chose the weights.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from semd.config import Config
from semd.control.actor_weights import load_actor
from semd.control.policy import ActorPolicy
from semd.decision.rules import RunRules
from semd.errors import TrainingError
from semd.reporting.table import Column, TextTable
from semd.training.control.actor_evaluation import ControlFigures
from semd.training.control.actor_manifest_entry import actor_entry
from semd.training.control.control_settings import ControlTrainingConfig
from semd.training.control.control_training import ControlTrainingResult, train_control
from semd.training.control.experience import Experience
from semd.training.control.recorded_transitions import read_records
from semd.training.control.twin_environment import evaluate_on_twin, make_evaluation, make_twin

EXPERIENCE, SUMMARY, START = "experience.npz", "records.json", "actor_start.safetensors"
COMPARISON = "comparison.json"
_COMPARISON_SEED = 78_000
_COMPARISON_FACTOR = 4
"""Episodes of the comparison over those of the evaluations that chose the weights."""

_FRAMES = 384_000
_CRITIC_FIRST = 0.65
"""Share of the updates that leave the actor alone; with less it forgets first what it could, then learns it again."""
_ANCHOR = 10.0


@dataclass(frozen=True, slots=True)
class RecordsTrainingComparison:
    """Result of learning from records.

    Attributes:
        config: the settings it was learned with.
        training: what the training left.
        records: counts of the records, see `Records.summary`.
        start_sha256: of the weights it began with.
        before: the twin's figures for these.
        after: the same for the weights in `training.best_path`, on the same episodes.
    """

    config: ControlTrainingConfig
    training: ControlTrainingResult
    records: dict[str, Any]
    start_sha256: str
    before: ControlFigures
    after: ControlFigures

    @property
    def became_worse(self) -> bool:
        """True where fewer episodes truly succeed within 25 frames, or as many with more frames."""
        return _sort_key(self.after) < _sort_key(self.before)

    def as_json(self) -> dict[str, object]:
        """The reported figures."""
        return {
            "frames": self.training.frames,
            "updates": self.training.updates,
            "records": self.records,
            "before": asdict(self.before),
            "after": asdict(self.after),
            "became_worse": self.became_worse,
        }

    def as_text(self) -> str:
        """The same for a terminal."""
        counts = self.records
        skipped = ", ".join(f"{reason} {count}" for reason, count in counts["skipped"].items()) or "none"
        verdict = "worse than before" if self.became_worse else "no worse than before"
        compared = (("before", self.before), ("after", self.after))
        return TextTable(
            columns=(
                Column("on the twin", align="left"),
                Column("truly good within 25", form="{:.2%}"),
                Column("median frames", form="{:g}"),
                Column("90 % of runs", form="{:g}"),
            ),
            rows=tuple(
                (name, figures.true_success_25, figures.median_frames, figures.p90_frames) for name, figures in compared
            ),
            title=(
                f"{counts['transitions']} transitions of {counts['frames']} recorded frames, {counts['passed']} passed",
                f"not used: {skipped}",
            ),
            notes=(f"{verdict}, on {self.after.episodes} episodes each",),
        ).as_text()

    def entry(self, preset: str) -> dict[str, Any]:
        """The manifest's entry for the weights, but the SHA-256 that the store adds."""
        entry = actor_entry(self.config, self.training, preset)
        share = f"--from-records STATE --records-share {self.config.records_share:g}"
        entry["training"] |= {
            "command": f"{entry['training']['command']} {share}",
            "data": f"{entry['training']['data']}, and the runs that a daemon recorded",
            "records": self.records,
            "start_sha256": self.start_sha256,
        }
        entry["figures"] |= {"on_the_twin": asdict(self.after), "before": asdict(self.before)}
        return entry


def records_config(
    base: ControlTrainingConfig, start: ActorPolicy, share: float, frames: int | None
) -> ControlTrainingConfig:
    """The settings of a preset for learning from records: shorter, the critic first, and held to the start.

    Args:
        base: the preset, with seed and threads.
        start: the actor to begin with.
        share: of each batch drawn from the records.
        frames: simulated frames in all; None for 384,000 or the preset's, whichever is less.
    """
    max_frames = frames if frames is not None else min(base.max_frames, _FRAMES)
    updates = max(0, max_frames - base.warmup_frames) // base.n_envs * base.updates_per_step
    return replace(
        base,
        max_frames=max_frames,
        n_frames=start.n_frames,
        rho=start.rho,
        critic_first_updates=int(_CRITIC_FIRST * updates),
        anchor=_ANCHOR,
        records_share=share,
    )


def learn_from_records(
    config: ControlTrainingConfig,
    directory: Path,
    start: bytes,
    run_dir: Path,
    *,
    daemon: Config | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> RecordsTrainingComparison:
    """Train from `start` on the records and the twin, and compare before and after.

    Transitions and start are kept in the run folder: a resumed training goes by these, whatever the daemon has
    recorded since.

    Args:
        config: see `records_config`.
        directory: the daemon's state directory; not looked at on resumption.
        start: weights of the actor to begin with; likewise.
        run_dir: where records, curve, checkpoint, weights and comparison go.
        daemon: the daemon's configuration; None for semd's default limits, axes and optics.
        resume: go on from the checkpoint there.
        console: where progress bars go; None for standard error.

    Raises:
        DatasetError, LedgerError, StorageError: the records cannot be used; see `read_records`.
        ModelError: `start` is not an actor's weights.
        TrainingError: see `train_control`.
    """
    if not resume:
        load_actor(start)  # nothing is written before it is known to be one
        rules = RunRules(n_frames=config.n_frames, rho=config.rho)
        if daemon is not None:
            rules = daemon.rules(config.n_frames, config.rho)
        records = read_records(directory, rules, config.weights, config.aim, console)
        run_dir.mkdir(parents=True, exist_ok=True)
        records.experience.save(run_dir / EXPERIENCE)
        (run_dir / START).write_bytes(start)
        (run_dir / SUMMARY).write_text(json.dumps(records.summary(), indent=2) + "\n", "utf-8")
    experience = Experience.load(run_dir / EXPERIENCE)
    try:
        summary = json.loads((run_dir / SUMMARY).read_text("utf-8"))
        start = (run_dir / START).read_bytes()
    except (OSError, ValueError) as error:
        raise TrainingError(f"{run_dir}: not the folder of a training from records: {error}") from error

    result = train_control(
        config,
        make_twin(config),
        make_evaluation(config),
        run_dir,
        start=load_actor(start),
        experience=experience,
        resume=resume,
        console=console,
    )
    comparison = RecordsTrainingComparison(
        config=config,
        training=result,
        records=summary,
        start_sha256=hashlib.sha256(start).hexdigest(),
        before=_compare(config, start),
        after=_compare(config, result.best_path.read_bytes()),
    )
    (run_dir / COMPARISON).write_text(json.dumps(comparison.as_json(), indent=2) + "\n", "utf-8")
    return comparison


def _compare(config: ControlTrainingConfig, weights: bytes) -> ControlFigures:
    """The twin's figures for weights as they lie on disk."""
    policy = ActorPolicy.load(weights)
    rules = RunRules(n_frames=policy.n_frames, rho=policy.rho)
    episodes = _COMPARISON_FACTOR * config.evaluate_episodes
    return evaluate_on_twin(policy.batch, rules, episodes=episodes, seed=_COMPARISON_SEED)


def _sort_key(figures: ControlFigures) -> tuple[float, float, float]:
    """More true successes first, then fewer frames for nearly all, then for half."""
    frames = [value if value is not None else float("inf") for value in (figures.p90_frames, figures.median_frames)]
    return figures.true_success_25, -frames[0], -frames[1]
