"""The accounts after a run: every frame answered once, every action in order, every target explained.

Works on files, the SEM's own records and the link's log alone.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections import Counter, defaultdict
from pathlib import Path
from typing import Final

from independent_sem import VirtualSem
from isem_deliveries import FOLDERS, FiledAction, aisem_problems, filed_actions, text_problems
from isem_protocol import ReadAction
from isem_writer import FrameRecord, sha

# ISSUED has milliseconds; the writer's clock is read just after its last write.
_CLOCK_GRAIN: Final = dt.timedelta(milliseconds=20)
_ROUNDING: Final = {"wd": 1.1e-4, "brightness": 1.1e-3, "contrast": 1.1e-3}


def quarantine_reasons(state_dir: Path) -> list[Path]:
    """Return every `*.reason.txt` below the state directory."""
    return sorted(state_dir.rglob("*.reason.txt"))


class Audit:
    """Takes the accounts of one acceptance run.

    Args:
        sem: The virtual SEM after or during the run.
        actions_dir: `[actions] directory`.
        state_dir: `[state] directory`.
        kills: How often the Middle Client was killed; each excuses one resend of one ID.
    """

    def __init__(self, sem: VirtualSem, actions_dir: Path, state_dir: Path, *, kills: int = 0) -> None:
        self._sem = sem
        self._actions_dir = actions_dir
        self._state_dir = state_dir
        self.kills = kills

    def actions(self) -> list[ReadAction]:
        """Return the well-formed actions by SEQ."""
        filed = filed_actions(self._actions_dir, self._sem.axes)
        return sorted((f.action for f in filed if f.action is not None), key=lambda action: action.seq)

    def last_status(self) -> str:
        """Return the STATUS of the newest action, empty before the first."""
        actions = self.actions()
        return actions[-1].status if actions else ""

    def unanswered(self) -> list[str]:
        """Return what is still open: frames without an answer, actions not yet delivered."""
        answered, _ = self._answers()
        reasons = [path.name for path in quarantine_reasons(self._state_dir)]
        open_items = [
            f"frame {frame.number} ({frame.stem}, {frame.kind})"
            for frame in list(self._sem.frames)
            if not self._closed(frame, len(answered[frame.number]), self._reasons_of(frame, reasons))
        ]
        # In `aisem` too: a command is filed as sent only once the next frame has confirmed it.
        pending = {path.name for path in self._actions_dir.glob("action-*.txt")}
        return open_items + sorted(f"pending {name}" for name in pending)

    def problems(self) -> list[str]:
        """Return every deviation from the contract; call it when all processes have ended."""
        filed = filed_actions(self._actions_dir, self._sem.axes)
        found = [f"{f.folder}/{f.name}: {f.fault}" for f in filed if f.action is None]
        found += [f"{f.name} lies in unknown folder {f.folder}" for f in filed if f.folder not in FOLDERS]
        found += list(self._sem.server.violations) + list(self._sem.troubles)
        found += self._names_and_numbers(filed) + self._one_answer_each() + self._targets() + self._statuses()
        if self._sem.layout == "single":
            found += self._archived_once()
        if self._sem.dialect == "text":
            return found + text_problems(self._sem.text_link, filed, kills=self.kills)
        return found + aisem_problems(self._sem.aisem_link, filed)

    def _closed(self, frame: FrameRecord, actions: int, reasons: int) -> bool:
        if frame.kind == "good":
            return actions == 1 and reasons == 0
        if frame.kind == "torn-image":
            return actions == 1 and reasons == 1
        return actions == 0 and reasons == 1

    def _reasons_of(self, frame: FrameRecord, names: list[str]) -> int:
        if self._sem.layout == "single":
            return 0
        return sum(frame.stem in name for name in names)

    def _archive_stems(self) -> dict[str, str]:
        """Return image hash to the stem under which the state directory keeps that image."""
        wanted = {frame.image_sha for frame in list(self._sem.frames)}
        stems = {}
        for path in self._state_dir.rglob("*"):
            try:
                if path.is_file() and path.suffix.lower() not in (".txt", ".json", ".sqlite", ".db"):
                    digest = sha(path.read_bytes())
                    if digest in wanted:
                        stems[digest] = path.stem
            except OSError:
                continue
        return stems

    def _answers(self) -> tuple[dict[int, list[ReadAction]], list[ReadAction]]:
        """Return frame number to its actions, and the actions that answer no frame."""
        frames = list(self._sem.frames)
        if self._sem.layout == "single":
            stems = self._archive_stems()
            number_of = {stems.get(frame.image_sha, ""): frame.number for frame in frames}
        else:
            number_of = {frame.stem: frame.number for frame in frames}
        answered: dict[int, list[ReadAction]] = defaultdict(list)
        strangers = []
        for action in self.actions():
            number = number_of.get(action.frame)
            if number is None and self._sem.layout == "single":
                # FRAME may keep the common stem; pairs are taken in turn, so it is the oldest one without an answer.
                before = [frame.number for frame in frames if frame.completed_at <= action.issued]
                number = min((each for each in before if not answered[each]), default=None)
            if number is None:
                strangers.append(action)
            else:
                answered[number].append(action)
        return answered, strangers

    def _one_answer_each(self) -> list[str]:
        answered, strangers = self._answers()
        reasons = [path.name for path in quarantine_reasons(self._state_dir)]
        found = [f"SEQ={action.seq} answers FRAME={action.frame!r}, never written" for action in strangers]
        for frame in self._sem.frames:
            actions, reason_count = answered[frame.number], self._reasons_of(frame, reasons)
            if not self._closed(frame, len(actions), reason_count):
                seqs = [action.seq for action in actions]
                found.append(
                    f"frame {frame.number} ({frame.stem}, {frame.kind}): actions {seqs}, {reason_count} reasons"
                )
            if frame.kind == "torn-image" and any(action.status != "HOLD" for action in actions):
                found.append(f"frame {frame.number} ({frame.stem}) is torn and not answered with HOLD")
        if self._sem.layout == "single" and reasons:
            found.append(f"good frames were quarantined: {reasons}")
        return found

    def _names_and_numbers(self, filed: list[FiledAction]) -> list[str]:
        found = [
            f"{f.folder}/{f.name} holds SEQ={f.action.seq} ID={f.action.action_id}"
            for f in filed
            if f.action and f.name != f"action-{f.action.seq:08d}-{f.action.action_id}.txt"
        ]
        for what, values in (
            ("SEQ", [f.action.seq for f in filed if f.action]),
            ("ID", [f.action.action_id for f in filed if f.action]),
        ):
            found += [f"{what}={value} in {n} files" for value, n in Counter(values).items() if n > 1]
        issued = [action.issued for action in self.actions()]
        if issued != sorted(issued):
            found.append("ISSUED does not grow with SEQ")
        return found

    def _targets(self) -> list[str]:
        """Check haste, equation 4, limits; HOLD and DONE keep the knobs, GIVE-UP returns to a frame's."""
        answered, _ = self._answers()
        found = []
        for frame in self._sem.frames:
            for action in answered[frame.number]:
                name = f"SEQ={action.seq} {action.status} for frame {frame.number}"
                early = frame.completed_at - action.issued
                if early > _CLOCK_GRAIN:
                    found.append(f"{name}: ISSUED {early} before the frame was complete")
                if action.magnification != frame.knobs.magnification:
                    found.append(f"{name}: MAG={action.magnification}, frame has {frame.knobs.magnification}")
                for axis, target in action.targets.items():
                    fault = self._target_fault(frame, action, axis, target)
                    if fault:
                        found.append(f"{name}: {axis} {fault}")
        return found

    def _target_fault(self, frame: FrameRecord, action: ReadAction, axis: str, target: float) -> str:
        low, high = self._sem.limits[axis]
        room = _ROUNDING[axis]
        present, delta = _knob(frame, axis), action.deltas[axis]
        if not low - room <= target <= high + room:
            return f"target {target} outside {low}..{high}"
        if action.status in ("HOLD", "DONE") and abs(target - present) > room:
            return f"target {target}, but the frame has {present}"
        if action.status == "GIVE-UP" and all(abs(target - _knob(f, axis)) > room for f in self._sem.frames):
            return f"target {target} is that of no frame"
        moved = target - present
        clamped = abs(moved) <= abs(delta) + room and moved * delta >= -room * abs(delta)
        if action.status == "ADJUST" and abs(present + delta - target) > 2 * room and not clamped:
            return f"target {target} is not {present} {delta:+}, clamped"
        return ""

    def _statuses(self) -> list[str]:
        actions = self.actions()
        runs = zip(actions, actions[1:], actions[2:], actions[3:], strict=False)
        found = [
            f"four HOLD in a row from SEQ={four[0].seq}"
            for four in runs
            if {action.status for action in four} == {"HOLD"}
        ]
        return found + [
            f"SEQ={after.seq}: STEP={after.step} after STEP={before.step}"
            for before, after in itertools.pairwise(actions)
            if after.step > before.step + 1
        ]

    def _archived_once(self) -> list[str]:
        counts: Counter[str] = Counter()
        for path in self._state_dir.rglob("*"):
            if path.is_file():
                counts[sha(path.read_bytes())] += 1
        return [
            f"frame {frame.number}: {half} is kept {counts[digest]} times below the state directory"
            for frame in self._sem.frames
            for half, digest in (("image", frame.image_sha), ("text", frame.text_sha))
            if counts[digest] < 1 or (half == "image" and counts[digest] > 1)
        ]


def _knob(frame: FrameRecord, axis: str) -> float:
    knobs = frame.knobs
    return {"wd": knobs.wd_mm, "brightness": knobs.brightness, "contrast": knobs.contrast}[axis]
