"""Counting of the frame fates of `semd evaluate crashes`: every fault is detected, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from semd.campaigns.crashes.crash_campaign import CrashCampaignSpec, CrashRunResult, summarise
from semd.campaigns.crashes.crash_sem import CrashSem
from semd.campaigns.crashes.frame_fates import FrameFate, count_fates
from semd.campaigns.crashes.harness_daemon import moving_pipeline
from semd.campaigns.crashes.steps import CrashStep
from semd.config import Config, load_config
from semd.decision.run import advance
from semd.domain.axes import Axis
from semd.inbox.load import FrameLoader
from semd.pipeline import make_action
from semd.protocol.action import Action, decode_action, encode_action
from semd.protocol.pairing import Layout
from semd.service.failpoints import Failpoint, Part
from semd.testing import NO_MODELS_DIGEST

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Story:
    """Four frames, two of which are no good ones, that ended as they should, written down by hand."""

    def __init__(self, root: Path, dialect: str) -> None:
        for name in ("watch", "actions/sent", "state/quarantine"):
            (root / name).mkdir(parents=True)
        path = root / "semd.toml"
        path.write_text("\n".join(f'[{name}]\ndirectory = "{name}"' for name in ("watch", "actions", "state")))
        self.config: Config = load_config(path)
        self.sem = CrashSem(root / "watch", Layout.SERIES, dialect, NO_MODELS_DIGEST)
        for _ in range(4):
            self.sem.scan()
        self.sent = root / "actions" / "sent"
        self.quarantine = root / "state" / "quarantine"
        self.answer_all()

    def answer_all(self) -> None:
        loader, pipeline, run = FrameLoader.of(self.config), moving_pipeline(self.config), None
        for frame in self.sem.frames:
            loaded = loader.build(frame.stem, Path("a.jpg"), Path("a.txt"), frame.image, frame.text)
            answer = pipeline.answer(run, frame.stem, loaded.parameters, loaded.image)
            run = advance(run, answer.observation, answer.decision)
            action = make_action(
                frame.identity, frame.number + 1, answer.observation, answer.decision, NOW, timedelta(seconds=60)
            )
            (self.sent / action.file_name).write_bytes(encode_action(action))
            self.tell(action, frame.magnification)
            if frame.kind != "good":
                (self.quarantine / f"{frame.identity[:8]}~{frame.stem}.jpg.reason.txt").write_text("SEMD-F05")

    def tell(self, action: Action, magnification: int) -> None:
        if self.sem.dialect == "text":
            self.sem.received(0, encode_action(action) + b"\n")
            self.sem.applied.append(action.id)
        else:
            self.sem.received(0, f"WDMAG,{action.targets[Axis.WD]:.4f},{magnification}".encode())

    def file(self, number: int) -> Path:
        return next(self.sent.glob(f"action-{number + 1:08d}-*"))

    def action(self, number: int) -> Action:
        return decode_action(self.file(number).read_bytes())

    def count_fates(self) -> tuple[list[FrameFate], int]:
        return count_fates(self.sem, self.config, moving_pipeline(self.config))


def faults(fate: FrameFate) -> set[str]:
    names = {
        "lost": fate.is_lost,
        "doubled": fate.is_doubled,
        "applied twice": fate.is_applied_twice,
        "invented": fate.is_invented,
        "differs": fate.differs,
    }
    return {name for name, is_so in names.items() if is_so}


@pytest.mark.parametrize("dialect", ["text", "aisem"])
def test_what_went_well_is_found_well(tmp_path: Path, dialect: str) -> None:
    fates, strays = Story(tmp_path, dialect).count_fates()
    assert [faults(fate) for fate in fates] == [set()] * 4
    assert [fate.frame.kind for fate in fates] == ["good", "good", "damaged image", "good"]
    assert [fate.sent for fate in fates] == [1] * 4
    assert strays == 0


def test_an_id_that_is_sent_again_unchanged_is_no_fault(tmp_path: Path) -> None:
    story = Story(tmp_path, "text")
    story.sem.received(1, encode_action(story.action(1)) + b"\n" + encode_action(story.action(3))[:40])
    fates, _ = story.count_fates()
    assert [faults(fate) for fate in fates] == [set()] * 4
    assert [fate.sent for fate in fates] == [1, 2, 1, 1]


def double_action(story: Story) -> None:
    (story.sent.parent / story.file(1).name).write_bytes(story.file(1).read_bytes())


def double_under_a_number(story: Story) -> None:
    story.file(1).with_name(story.file(1).name + ".1").write_bytes(story.file(1).read_bytes())


def apply_twice(story: Story) -> None:
    story.tell(story.action(1), story.sem.frames[1].magnification)


def send_changed(story: Story) -> None:
    story.sem.received(1, encode_action(replace(story.action(1), score=1.0)) + b"\n")


def never_arrive(story: Story) -> None:
    story.sem.transcripts.clear()
    story.sem.applied.clear()
    for number in (0, 2, 3):
        story.tell(story.action(number), story.sem.frames[number].magnification)


def decide_otherwise(story: Story) -> None:
    story.file(1).write_bytes(encode_action(replace(story.action(1), step=7)))


@pytest.mark.parametrize(
    ("dialect", "harm", "found"),
    [
        ("text", double_action, {"doubled"}),
        ("text", double_under_a_number, {"doubled"}),
        ("text", apply_twice, {"applied twice"}),
        ("aisem", apply_twice, {"applied twice"}),
        ("text", send_changed, {"applied twice"}),
        ("text", never_arrive, {"invented"}),
        ("aisem", never_arrive, {"invented"}),
        ("text", decide_otherwise, {"differs"}),
    ],
)
def test_harm_shows_on_its_frame_alone(
    tmp_path: Path, dialect: str, harm: Callable[[Story], None], found: set[str]
) -> None:
    story = Story(tmp_path, dialect)
    harm(story)
    fates, _ = story.count_fates()
    assert [faults(fate) for fate in fates] == [set(), found, set(), set()]


def test_a_frame_without_an_answer_is_lost_and_its_run_is_another_one(tmp_path: Path) -> None:
    story = Story(tmp_path, "text")
    story.file(1).unlink()
    fates, _ = story.count_fates()
    assert [faults(fate) for fate in fates] == [set(), {"lost"}, {"differs"}, {"differs"}]


def test_without_ids_a_hold_is_believed_by_the_frame_alone(tmp_path: Path) -> None:
    story = Story(tmp_path, "aisem")
    story.sem.transcripts.clear()
    for number in (0, 1, 3):
        story.tell(story.action(number), story.sem.frames[number].magnification)
    assert set(story.action(2).deltas.values()) == {0.0}
    fates, _ = story.count_fates()
    assert [faults(fate) for fate in fates] == [set()] * 4


@pytest.mark.parametrize(("copies", "found"), [(0, {"lost"}), (2, {"doubled"})])
def test_a_record_in_quarantine_is_counted_too(tmp_path: Path, copies: int, found: set[str]) -> None:
    story = Story(tmp_path, "text")
    (record,) = story.quarantine.iterdir()
    record.unlink()
    for number in range(copies):
        record.with_name(f"{record.name.partition('~')[0]}~{number}.reason.txt").touch()
    fates, _ = story.count_fates()
    assert faults(fates[2]) == found


def test_an_action_for_no_frame_is_a_stray(tmp_path: Path) -> None:
    story = Story(tmp_path, "text")
    story.sem.frames.pop()
    fates, strays = story.count_fates()
    assert (len(fates), strays) == (3, 1)


def test_every_failpoint_gets_its_trap_and_every_write_a_full_disk() -> None:
    spec = CrashCampaignSpec(hits=(1, 3))
    killed = [trap.point for part in Part for trap in spec.traps(part, "kill")]
    assert set(killed) == set(Failpoint)
    assert all(killed.count(point) >= 2 for point in Failpoint)
    assert {trap.hit for trap in spec.traps(Part.MIDDLE_CLIENT, "kill")} == {1, 3}
    full = {trap.point for part in Part for trap in spec.traps(part, "full")}
    assert {point for point in full if point.endswith("ing")} == {point for point in Failpoint if point.endswith("ing")}
    assert full >= {Failpoint.LEDGER_COMMIT, Failpoint.DAEMON_HEALTH, Failpoint.CLIENT_HEALTH}
    assert CrashCampaignSpec(modes=("kill",)).traps(Part.DAEMON, "full") == []


def test_the_summary_adds_up() -> None:
    steps = [
        CrashStep("series", "text", "kill", "claimed", 2, "daemon", recovery_s=1.0, frames=3),
        CrashStep("series", "text", "kill", "sent", 2, "middle-client", recovery_s=None, frames=2, lost=1),
        CrashStep("series", "text", "full", "action-writing", 2, "daemon", trouble="stuck", frames=4),
    ]
    found = summarise([CrashRunResult(steps, strays=1, frames=9)])
    assert (found["frames"], found["lost"], found["strays"]) == (9, 1, 1)
    assert (found["killed"], found["disk_full"], found["troubles"]) == (2, 0, ["stuck"])
    assert (found["recovery_daemon_median_s"], found["recovery_link_median_s"]) == (1.0, None)
    assert [step.is_fine for step in steps] == [True, False, False]
