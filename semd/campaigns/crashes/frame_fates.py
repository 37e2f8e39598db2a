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
        frame: the frame as saved.
        answers: number of action files with its id, in any folder.
        records: number of its reason files in quarantine.
        applied: number of times that the SEM carried out its action.
        sent: number of times that the SEM received its action; may exceed `applied` in the text dialect only.
        changed: True if it was sent again with different bytes.
        claimed: True if the Middle Client reports it as sent, by its file in `sent`. False for an action of
            the aisem dialect that moves nothing: a frame that shows the target is all that the protocol asks for then.
        differs: True if its answer differs from that of an uninterrupted daemon.
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
        """True if a due answer or a due record in quarantine is missing."""
        return self.answers < self._answers_due or self.records < self._records_due

    @property
    def is_doubled(self) -> bool:
        """True if the frame has more answers or records than are due."""
        return self.answers > self._answers_due or self.records > self._records_due

    @property
    def is_applied_twice(self) -> bool:
        """True if the SEM carried out its action twice, or received two different actions."""
        return self.applied > 1 or self.changed

    @property
    def is_invented(self) -> bool:
        """True if the Middle Client reports its action as sent but the SEM never received it."""
        return self.claimed and self.sent == 0

    @property
    def _answers_due(self) -> int:
        return 0 if self.frame.kind == "bad text" else 1

    @property
    def _records_due(self) -> int:
        return 0 if self.frame.kind == "good" else 1


def count_fates(sem: CrashSem, config: Config, pipeline: Pipeline) -> tuple[list[FrameFate], int]:
    """Count the fates after both processes and the SEM have stopped.

    Args:
        sem: the SEM with its records.
        config: configuration of the harness.
        pipeline: pipeline of the daemon, to compute the answers of an uninterrupted daemon.

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
    """Read all action files, by id, including those with a number appended to their name."""
    found: dict[str, list[tuple[Path, bytes]]] = {}
    for path in sorted(directory.rglob("action-*.txt*")):
        found.setdefault(path.name.split(".")[0].rpartition("-")[2], []).append((path, path.read_bytes()))
    return found


def _is_claimed(sem: CrashSem, path: Path, data: bytes) -> bool:
    moves = sem.dialect == "text" or any(decode_action(data).deltas.values())
    return moves and path.parent.name == "sent"


def _quarantine_key(frame: SavedFrame) -> str:
    """Prefix of the frame's files in quarantine, before the `~`."""
    if frame.kind == "damaged image":
        return frame.identity[:8]
    return digest(f"{digest(frame.image)}{digest(frame.text)}".encode())[:8]


def _received(sem: CrashSem) -> tuple[Counter[str], set[str]]:
    """Count the arrivals of each complete action, by id or magnification; find those with differing bytes."""
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
    """Compute the action files of an uninterrupted daemon, by id; SEQ and times are taken from the files found."""
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
