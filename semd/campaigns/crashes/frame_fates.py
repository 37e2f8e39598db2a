"""Fate of every frame, counted from the directories and from the bytes that the SEM received alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from semd.campaigns.crashes.crash_sem import CrashSem, SavedFrame
from semd.config import Config
from semd.decision.run import Run, advance
from semd.errors import ActionTextError
from semd.inbox.load import FrameLoader
from semd.pipeline import Pipeline, make_action
from semd.protocol.action import Action, decode_action, encode_action
from semd.protocol.identity import digest

_AISEM_MOVE = re.compile(rb"WDMAG,[0-9.]+,([0-9]+)")


@dataclass(frozen=True, slots=True)
class FrameFate:
    """Fate of one frame.

    Attributes:
        frame: as it was saved.
        answers: action files with its id, wherever they lie; None where it deserves none.
        records: reason files in quarantine; None where it deserves none.
        applied: how often the SEM carried its action out.
        sent: how often the SEM received it; more often than applied only in the text dialect, by its rules.
        changed: True where it was sent again with other bytes.
        claimed: True where the Middle Client says that the SEM has it: its file lies in `sent`. False for an action of
            the aisem dialect that moves nothing: a frame that shows the target is all that the protocol asks for then.
        differs: True where its answer is another than that of a daemon that never died.
    """

    frame: SavedFrame
    answers: int
    records: int
    applied: int
    sent: int
    changed: bool
    claimed: bool
    differs: bool

    @property
    def is_lost(self) -> bool:
        """It got no answer, or no record in quarantine, though it deserves one."""
        return self.answers < self._answers_due or self.records < self._records_due

    @property
    def is_doubled(self) -> bool:
        """It got more than it deserves."""
        return self.answers > self._answers_due or self.records > self._records_due

    @property
    def is_applied_twice(self) -> bool:
        """The SEM carried its action out twice, or was sent two different ones."""
        return self.applied > 1 or self.changed

    @property
    def is_invented(self) -> bool:
        """It is said to be sent, and the SEM never received it."""
        return self.claimed and self.sent == 0

    @property
    def _answers_due(self) -> int:
        return 0 if self.frame.kind == "bad text" else 1

    @property
    def _records_due(self) -> int:
        return 0 if self.frame.kind == "good" else 1


def count_fates(sem: CrashSem, config: Config, pipeline: Pipeline) -> tuple[list[FrameFate], int]:
    """Count, once both processes and the SEM have stopped.

    Args:
        sem: with its records.
        config: of the harness.
        pipeline: that of the daemon, for the answers that one that never died would have given.

    Returns:
        The fate of every frame, and the number of action files that answer none.
    """
    files = _action_files(config.actions.directory)
    records = Counter(path.name.partition("~")[0] for path in (config.state.directory / "quarantine").glob("*.reason*"))
    sent, changed = _received(sem)
    applied = Counter(sem.applied) if sem.dialect == "text" else sent
    expected = _undisturbed(sem.frames, files, config, pipeline)
    fates = []
    for frame in sem.frames:
        own = files.get(frame.identity, [])
        key = frame.identity if sem.dialect == "text" else str(frame.magnification)
        fates.append(
            FrameFate(
                frame,
                answers=len(own),
                records=records[_quarantine_key(frame)],
                applied=applied[key],
                sent=sent[key],
                changed=key in changed,
                claimed=any(_is_claimed(sem, path, data) for path, data in own),
                differs=any(expected.get(frame.identity) != data for _, data in own),
            )
        )
    known = {frame.identity for frame in sem.frames}
    return fates, sum(len(found) for identity, found in files.items() if identity not in known)


def _action_files(directory: Path) -> dict[str, list[tuple[Path, bytes]]]:
    """All action files with their bytes, by id; also those that got a number behind their name."""
    found: dict[str, list[tuple[Path, bytes]]] = {}
    for path in sorted(directory.rglob("action-*.txt*")):
        found.setdefault(path.name.split(".")[0].rpartition("-")[2], []).append((path, path.read_bytes()))
    return found


def _is_claimed(sem: CrashSem, path: Path, data: bytes) -> bool:
    moves = sem.dialect == "text" or any(decode_action(data).deltas.values())
    return moves and path.parent.name == "sent"


def _quarantine_key(frame: SavedFrame) -> str:
    """Prefix before the `~` of its files in quarantine."""
    if frame.kind == "damaged image":
        return frame.identity[:8]
    return digest(f"{digest(frame.image)}{digest(frame.text)}".encode())[:8]


def _received(sem: CrashSem) -> tuple[Counter[str], set[str]]:
    """Arrivals of each whole action, by id or by magnification, and those that arrived with different bytes."""
    counts: Counter[str] = Counter()
    bodies: dict[str, set[bytes]] = {}
    for transcript in sem.transcripts:
        if sem.dialect == "aisem":
            counts.update(match.decode() for match in _AISEM_MOVE.findall(bytes(transcript)))
            continue
        for message in bytes(transcript).split(b"\n\n")[:-1]:
            try:
                identity = decode_action(message + b"\n").id
            except ActionTextError:
                identity = "damaged"
            counts[identity] += 1
            bodies.setdefault(identity, set()).add(message)
    return counts, {identity for identity, found in bodies.items() if len(found) > 1}


def _undisturbed(
    frames: Sequence[SavedFrame], files: Mapping[str, list[tuple[Path, bytes]]], config: Config, pipeline: Pipeline
) -> dict[str, bytes]:
    """The action files of a daemon that never died, by id: SEQ and stamps as found, all the rest computed anew."""
    loader = FrameLoader.of(config)
    first: dict[str, Action] = {identity: decode_action(found[0][1]) for identity, found in files.items()}
    answered = [frame for frame in frames if frame.identity in first and frame.kind != "bad text"]
    made: dict[str, bytes] = {}
    run: Run | None = None
    for frame in sorted(answered, key=lambda frame: first[frame.identity].seq):
        loaded = loader.build(frame.stem, Path(f"{frame.stem}.jpg"), Path(f"{frame.stem}.txt"), frame.image, frame.text)
        answer = pipeline.answer(run, frame.stem, loaded.parameters, loaded.image)
        run = advance(run, answer.observation, answer.decision)
        found = first[frame.identity]
        action = make_action(frame.identity, found.seq, answer.observation, answer.decision, found.issued, timedelta(0))
        made[frame.identity] = encode_action(replace(action, expires=found.expires))
    return made
