"""`semd replay`: recorded pairs through the daemon's own pipeline; the same models give the same actions."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import track

from semd.config import Config
from semd.decision.run import Run, advance
from semd.errors import DatasetError, FrameError
from semd.inbox.load import FrameLoader
from semd.outbox.spool import Spool
from semd.pipeline import load_pipeline, make_action
from semd.protocol.action import Status
from semd.protocol.identity import action_id, unique_stem
from semd.protocol.pairing import Candidate, pair_names
from semd.service.memory import peak_memory_mb

_RECORDED = re.compile(r"(\d{8})~(.+)", re.ASCII | re.DOTALL)


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """One pair of a recording.

    Attributes:
        seq: of the action that answered it; None in a plain folder of pairs.
        stem: the frame's own stem.
        candidate: its files.
    """

    seq: int | None
    stem: str
    candidate: Candidate

    def paths(self, directory: Path) -> tuple[Path, Path | None]:
        """Its image and, where there is one, its parameter text."""
        text = self.candidate.text
        return directory / str(self.candidate.image), directory / text if text is not None else None


def list_recording(directory: Path, config: Config) -> list[RecordedFrame]:
    """The frames of a recording, or of any folder of pairs, in the order in which they are played.

    Raises:
        DatasetError: the folder cannot be read or holds no pair.
    """
    try:
        names = [path.name for path in directory.iterdir() if path.is_file()]
    except OSError as error:
        raise DatasetError(f"{directory}: cannot be read: {error.strerror}") from error
    frames = []
    for candidate in pair_names(names, config.watch.dialect):
        match = _RECORDED.fullmatch(candidate.stem)
        seq, stem = (int(match[1]), match[2]) if match else (None, candidate.stem)
        if candidate.whole:
            frames.append(RecordedFrame(seq, stem, candidate))
    if not frames:
        raise DatasetError(f"{directory}: no whole pair of the {config.watch.dialect} dialect")
    return frames


def replay_frames(
    directory: Path, config: Config, out: Path, *, now: datetime | None = None, progress: bool = False
) -> dict[str, object]:
    """Answer every frame of a recording and write the actions to `out`.

    Frames that cannot be read are counted and skipped, as the daemon quarantines them.

    Args:
        directory: the recording; it is only read.
        config: dialect, rules and models; its directories are not touched.
        out: a new or empty folder for the action files.
        now: the time stamped into the actions; None for the present.
        progress: show a bar on standard error.

    Raises:
        DatasetError: nothing to play, or `out` holds files already.
        ModelError: the models cannot be loaded.
    """
    frames = list_recording(directory, config)
    if out.exists() and any(out.iterdir()):
        raise DatasetError(f"{out} is not empty; name a new folder")
    pipeline = load_pipeline(config.models.directory, config.scoring.threads, config.rules, config.scoring.runtime)
    loader = FrameLoader.of(config)
    spool = Spool(out)
    stamp = now or datetime.now(UTC)
    lifetime = timedelta(seconds=config.actions.lifetime_s)
    run: Run | None = None
    seq, rejected = 0, 0
    identities: set[str] = set()
    status: Status | None = None
    begun = time.perf_counter()
    shown = track(frames, "replaying", console=Console(stderr=True), disable=not progress)
    for recorded in shown:
        try:
            frame = loader.load(recorded.stem, *recorded.paths(directory))
        except (FrameError, OSError):
            rejected += 1
            continue
        answer = pipeline.answer(run, frame.stem, frame.parameters, frame.image)
        run = advance(run, answer.observation, answer.decision)
        seq = recorded.seq if recorded.seq is not None else seq + 1
        digests = (frame.image_digest, frame.text_digest, pipeline.models_digest)
        identity = action_id(frame.stem, *digests)
        if identity in identities:  # the very same pair, saved again: as the daemon has it
            identity = action_id(unique_stem(frame.stem, seq), *digests)
        identities.add(identity)
        spool.publish(make_action(identity, seq, answer.observation, answer.decision, stamp, lifetime))
        status = answer.decision.status
    seconds = time.perf_counter() - begun
    answered = len(frames) - rejected
    return {
        "frames": len(frames),
        "answered": answered,
        "rejected": rejected,
        "last_status": str(status) if status is not None else None,
        "seconds": round(seconds, 3),
        "frames_per_second": round(answered / seconds, 2),
        "peak_memory_mb": peak_memory_mb(),
        "actions": str(out),
    }
