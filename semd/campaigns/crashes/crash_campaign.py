"""Crash campaign: one harness for each layout and dialect, and on it every failpoint, one after the other."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from semd.campaigns.crashes.crash_harness import open_crash_harness
from semd.campaigns.crashes.frame_fates import FrameFate, count_fates
from semd.campaigns.crashes.harness_daemon import moving_pipeline
from semd.campaigns.crashes.steps import LINK, CrashRun, CrashStep
from semd.config import Config
from semd.errors import StorageError
from semd.model_store import default_directory, models_digest
from semd.pipeline import Pipeline, load_pipeline
from semd.protocol.pairing import Layout
from semd.service.failpoints import TABLE, Failpoint, Mode, Part, Trap
from semd.testing import NO_MODELS_DIGEST

_TIMES_FULL = 3


@dataclass(frozen=True, slots=True)
class CrashCampaignSpec:
    """Settings of a crash campaign.

    Attributes:
        layouts, dialects: one harness for each pair.
        points: failpoints, in the order of the table.
        modes: `kill`, `full` (where something is written), or both.
        hits: hit counts at which a failpoint fires; each is a separate step.
        is_real: True for the production daemon with its networks, False for the stand-ins.
        patience_s: timeout of every wait.
    """

    layouts: tuple[Layout, ...] = tuple(Layout)
    dialects: tuple[str, ...] = ("text", "aisem")
    points: tuple[Failpoint, ...] = tuple(Failpoint)
    modes: tuple[Mode, ...] = ("kill", "full")
    hits: tuple[int, ...] = (2,)
    is_real: bool = False
    patience_s: float = 120.0

    def traps(self, part: Part, mode: Mode) -> list[Trap]:
        """List the traps of one process, in order."""
        if mode not in self.modes:
            return []
        found: list[Trap] = []
        for point in Failpoint:
            if point not in self.points or TABLE[point].part is not part:
                continue
            if mode == "full":
                found += [Trap(point, hit, "full", _TIMES_FULL) for hit in self.hits if TABLE[point].is_write]
            elif point is Failpoint.RESUMED:
                # Reached only with an unfinished frame, which the kill at DECIDED leaves, and only once at each start.
                for _ in self.hits:
                    found += [Trap(Failpoint.DECIDED, 1, "kill"), Trap(point, 1, "kill")]
            else:
                found += [Trap(point, hit, "kill") for hit in self.hits]
        return found


@dataclass(slots=True)
class CrashRunResult:
    """Steps of one harness, the number of frames, and the number of action files that answer no frame."""

    steps: list[CrashStep] = field(default_factory=list)
    strays: int = 0
    frames: int = 0


def run_campaign(
    spec: CrashCampaignSpec, directory: Path, show: Callable[[CrashStep], None]
) -> Iterator[CrashRunResult]:
    """Run one harness after the other and yield each result.

    Args:
        spec: settings of the campaign.
        directory: parent of the harnesses' directories.
        show: called with every step when it ends; the counts of the step follow with the harness's result.
    """
    for layout in spec.layouts:
        for dialect in spec.dialects:
            yield _run_harness(spec, directory / f"{layout}-{dialect}", layout, dialect, show)


def summarise(results: Sequence[CrashRunResult]) -> dict[str, object]:
    """Summarise the results of a campaign."""
    steps = [step for result in results for step in result.steps]
    killed = [step for step in steps if step.mode == "kill"]
    full = [step for step in steps if step.mode == "full"]
    totals = {
        key: sum(getattr(step, key) for step in steps)
        for key in ("frames", "lost", "doubled", "applied_twice", "invented", "differing", "sent_again")
    }
    return {
        "failpoints": len({step.point for step in killed + full}),
        "killed": sum(not step.trouble for step in killed),
        "disk_full": sum(not step.trouble for step in full),
        "troubles": [step.trouble for step in steps if step.trouble],
        **totals,
        "strays": sum(result.strays for result in results),
        **_times("recovery_daemon", [step.recovery_s for step in killed if step.part == Part.DAEMON]),
        **_times("recovery_middle_client", [step.recovery_s for step in killed if step.part == Part.MIDDLE_CLIENT]),
        **_times("recovery_link", [step.recovery_s for step in steps if step.point == LINK]),
    }


def as_json(spec: CrashCampaignSpec, results: Sequence[CrashRunResult]) -> dict[str, object]:
    """Return settings, summary and steps for a JSON file."""
    return {
        "spec": asdict(spec),
        "summary": summarise(results),
        "steps": [asdict(step) for result in results for step in result.steps],
    }


def _times(name: str, found: list[float | None]) -> dict[str, float | None]:
    seconds = [value for value in found if value is not None]
    return {
        f"{name}_median_s": round(statistics.median(seconds), 2) if seconds else None,
        f"{name}_longest_s": round(max(seconds), 2) if seconds else None,
    }


def _run_harness(
    spec: CrashCampaignSpec, directory: Path, layout: Layout, dialect: str, show: Callable[[CrashStep], None]
) -> CrashRunResult:
    result = CrashRunResult()
    with open_crash_harness(
        directory,
        layout,
        dialect,
        daemon_module="semd" if spec.is_real else "semd.campaigns.crashes.harness_daemon",
        models_digest=models_digest(default_directory()) if spec.is_real else NO_MODELS_DIGEST,
        timeout_s=spec.patience_s,
    ) as harness:
        crash_run = CrashRun(harness, result.steps, show)
        try:
            crash_run.start()
            for part in Part:
                crash_run.kill(part, spec.traps(part, "kill"))
            for part in Part:
                for trap in spec.traps(part, "full"):
                    crash_run.fill(part, trap)
            crash_run.cut_link()
            crash_run.finish()
        except StorageError as error:
            result.steps[-1].trouble = str(error)
            show(result.steps[-1])
    fates, result.strays = count_fates(harness.sem, harness.config, _pipeline(spec, harness.config))
    result.frames = len(fates)
    _attribute(result.steps, fates)
    return result


def _pipeline(spec: CrashCampaignSpec, config: Config) -> Pipeline:
    if spec.is_real:
        return load_pipeline(config.models.directory, config.scoring.threads, config.rules)
    return moving_pipeline(config)


def _attribute(steps: Sequence[CrashStep], fates: Sequence[FrameFate]) -> None:
    """Count each frame's fate in the step during which the frame was saved."""
    for fate in fates:
        step = steps[fate.frame.during]
        step.frames += 1
        step.lost += fate.is_lost
        step.doubled += fate.is_doubled
        step.applied_twice += fate.is_applied_twice
        step.invented += fate.is_invented
        step.differing += fate.differs
        step.sent_again += fate.sent > 1
