"""The whole independent SEM with a stand-in daemon, and proof that the audit sees what it should."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from independent_sem import VirtualSem
from isem_audit import Audit
from isem_column import Column
from isem_manners import GENTLE, MANNERS
from isem_stand_in import StandIn, compose, fields_for
from isem_writer import Layout


def start(sample: str, mag: float, discs_off: float) -> Column:
    return Column.off_focus(
        sample, magnification=mag, focus_mm=9.5, discs_off=discs_off, brightness=70.0, contrast=30.0, seed=4
    )


@pytest.mark.parametrize("layout", ["series", "single"])
def test_text_loop_reaches_done_with_clean_accounts(layout: Layout, tmp_path: Path) -> None:
    watch = tmp_path / "watch"
    watch.mkdir()
    manners = [MANNERS["renamed"], MANNERS["text-first"], GENTLE]
    with VirtualSem(watch, start("pollen", 2000.0, 12.0), layout=layout, manners=manners) as sem:
        stand_in = StandIn(sem, tmp_path)
        sem.scan()
        assert stand_in.run_text(12) == "DONE"
        assert sem.column.in_focus()
        assert sem.frames[-1].exposed
        assert not sem.scanning()
    audit = Audit(sem, stand_in.actions_dir, stand_in.state_dir)
    assert audit.unanswered() == []
    assert audit.problems() == []
    assert len(audit.actions()) == len(sem.frames) > 3


def test_aisem_loop_reaches_done_with_clean_accounts(tmp_path: Path) -> None:
    watch = tmp_path / "watch"
    watch.mkdir()
    column = start("fibres", 1000.0, -10.0)
    with VirtualSem(watch, column, layout="single", dialect="aisem", axes=("wd",)) as sem:
        stand_in = StandIn(sem, tmp_path)
        sem.scan()
        assert stand_in.run_aisem(12) == "DONE"
        assert sem.column.in_focus()
    audit = Audit(sem, stand_in.actions_dir, stand_in.state_dir)
    assert audit.unanswered() == []
    assert audit.problems() == []


def _newest(root: Path) -> Path:
    return max((root / "actions").rglob("action-*.txt"))


def _drop_answer(sem: VirtualSem, root: Path) -> None:
    _newest(root).unlink()


def _answer_twice(sem: VirtualSem, root: Path) -> None:
    fields = fields_for(sem.frames[0], 99, "HOLD", {"wd": 9.0, "brightness": 50.0, "contrast": 50.0})
    fields["ID"] = "ab" * 16
    (root / "actions" / "sent" / f"action-00000099-{'ab' * 16}.txt").write_bytes(compose(fields))


def _unknown_frame(sem: VirtualSem, root: Path) -> None:
    fields = fields_for(sem.frames[0], 99, "ADJUST", dict.fromkeys(sem.axes, 9.0), stem="other")
    (root / "actions" / "sent" / f"action-00000099-{fields['ID']}.txt").write_bytes(compose(fields))


def _reuse_seq(sem: VirtualSem, root: Path) -> None:
    path = _newest(root)
    path.rename(path.with_name(path.name.replace(path.name[7:15], "00000001")))


def _leave_pending(sem: VirtualSem, root: Path) -> None:
    path = _newest(root)
    path.rename(root / "actions" / path.name)


def _copy_to_expired(sem: VirtualSem, root: Path) -> None:
    (root / "actions" / "expired").mkdir()
    shutil.copy(_newest(root), root / "actions" / "expired")


def _spoil_file(sem: VirtualSem, root: Path) -> None:
    _newest(root).write_bytes(b"SEMD-ACTION=1\n")


def _quarantine_good_frame(sem: VirtualSem, root: Path) -> None:
    (root / "state" / "quarantine" / f"{sem.frames[0].stem}.reason.txt").write_text("why")


def _silent_resend(sem: VirtualSem, root: Path) -> None:
    key = next(iter(sem.text_link.order.receipts))
    sem.text_link.order.receipts[key] += 1


SPOILERS: dict[str, tuple[Callable[[VirtualSem, Path], None], str]] = {
    "answer missing": (_drop_answer, "actions []"),
    "answered twice": (_answer_twice, "actions [1, 99]"),
    "unknown frame": (_unknown_frame, "never written"),
    "wrong name": (_reuse_seq, "holds SEQ="),
    "left pending": (_leave_pending, "was left"),
    "two copies": (_copy_to_expired, "in 2 files"),
    "malformed": (_spoil_file, "keys are"),
    "good frame quarantined": (_quarantine_good_frame, "1 reasons"),
    "resent without reason": (_silent_resend, "sent again without a reason"),
}


@pytest.mark.parametrize("name", sorted(SPOILERS))
def test_audit_sees(name: str, tmp_path: Path) -> None:
    watch = tmp_path / "watch"
    watch.mkdir()
    with VirtualSem(watch, start("islands", 2000.0, 2.0)) as sem:
        stand_in = StandIn(sem, tmp_path)
        sem.scan()
        stand_in.run_text(12)
    audit = Audit(sem, stand_in.actions_dir, stand_in.state_dir)
    assert audit.problems() == []
    spoil, complaint = SPOILERS[name]
    spoil(sem, tmp_path)
    assert any(complaint in problem for problem in audit.problems()), audit.problems()


def test_audit_sees_an_answer_before_the_frame_was_complete(tmp_path: Path) -> None:
    watch = tmp_path / "watch"
    watch.mkdir()
    with VirtualSem(watch, start("islands", 2000.0, 2.0)) as sem:
        stand_in = StandIn(sem, tmp_path)
        sem.scan()
        stand_in.run_text(12)
    sem.frames[0] = replace(sem.frames[0], completed_at=sem.frames[0].completed_at + dt.timedelta(seconds=1))
    problems = Audit(sem, stand_in.actions_dir, stand_in.state_dir).problems()
    assert any("before the frame was complete" in problem for problem in problems), problems


def test_audit_sees_a_target_that_no_rule_explains(tmp_path: Path) -> None:
    watch = tmp_path / "watch"
    watch.mkdir()
    with VirtualSem(watch, start("islands", 2000.0, 2.0)) as sem:
        stand_in = StandIn(sem, tmp_path)
        sem.scan()
        frame = stand_in.await_frame(1)
    for status, target, delta, wrong in (
        ("ADJUST", frame.knobs.wd_mm - 0.1, "-0.100000", False),
        ("ADJUST", frame.knobs.wd_mm - 0.1, "-0.300000", False),
        ("ADJUST", frame.knobs.wd_mm + 0.1, "-0.100000", True),
        ("ADJUST", frame.knobs.wd_mm - 0.3, "-0.100000", True),
        ("ADJUST", 41.0, "+31.000000", True),
        ("HOLD", frame.knobs.wd_mm + 0.01, "+0.010000", True),
        ("DONE", frame.knobs.wd_mm, "+0.000000", False),
        ("GIVE-UP", frame.knobs.wd_mm + 0.2, "+0.200000", True),
    ):
        fields = fields_for(frame, 1, status, {"wd": target, "brightness": 70.0, "contrast": 30.0})
        fields["DELTA-WD"] = delta
        path = stand_in.actions_dir / "sent" / f"action-00000001-{fields['ID']}.txt"
        path.write_bytes(compose(fields))
        problems = Audit(sem, stand_in.actions_dir, stand_in.state_dir).problems()
        assert any(" wd " in problem for problem in problems) is wrong, (status, target, delta, problems)
