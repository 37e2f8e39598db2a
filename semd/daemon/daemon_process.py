"""The daemon's process: wiring, one instance per state directory, stop on signals."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from semd import __version__
from semd.config import Config
from semd.daemon.answering import Answerer
from semd.daemon.asking import AnswerSource
from semd.daemon.frame_files import FrameFolders
from semd.daemon.health_probes import ProbeTargets
from semd.daemon.loop import Loop
from semd.daemon.metrics_endpoint import metrics_endpoint
from semd.daemon.model_integrity import ModelIntegrity
from semd.daemon.retention import Retention, Stores
from semd.errors import (
    AnswerFailedError,
    ConfigError,
    FileLinkError,
    FileUnreadableError,
    FrameError,
    LedgerDamagedError,
    PairIncompleteError,
)
from semd.inbox.frame import LoadedFrame
from semd.inbox.inbox import Inbox, InboxTimeouts
from semd.inbox.load import FrameLoader
from semd.inbox.watch import Watch
from semd.model_store import default_directory
from semd.outbox.damage import damage_standing, set_aside
from semd.outbox.ledger import Ledger
from semd.outbox.rows import LedgerRow, Move
from semd.outbox.spool import Spool
from semd.pipeline import load_pipeline
from semd.protocol.pairing import Layout
from semd.service.logs import configure_logs
from semd.service.notify import ServiceManager
from semd.service.process_host import hosted_process
from semd.service.storage import storage_error

LEDGER_FILE = "ledger.sqlite"
LOCK_FILE = "daemon.lock"
HUNG_FILE = "daemon-hung.txt"


def run_daemon(config: Config, stop: threading.Event | None = None, *, source: AnswerSource | None = None) -> int:
    """Run until a signal or `stop`; returns 0.

    Args:
        config: names directories and models.
        stop: set it to end the loop; for callers that have no signals.
        source: answers the frames in place of the configured models; for test benches.

    Raises:
        ConfigError: the watch directory is not there, or the environment arms a failpoint and this is no test bench.
        ModelError: the models cannot be loaded.
        LedgerError: the ledger is not one of ours, or damaged.
        StorageError: the state or action directory cannot be written, or another daemon uses it.
    """
    state = config.state.directory
    if not config.watch.directory.is_dir():
        raise ConfigError(f"[watch] directory {config.watch.directory} is not there; make it or correct the path")
    stop = stop or threading.Event()
    watch = make_watch(config)
    log = structlog.get_logger()

    def configure() -> None:
        configure_logs(
            config.log_directory / "daemon.log", level=config.log.level, max_bytes=int(config.log.max_mb * 1e6)
        )
        log.info("daemon.starting", version=__version__, watch=str(config.watch.directory))

    def end() -> None:
        """End the loop after the frame in hand."""
        stop.set()
        watch.wake()

    with hosted_process(
        state,
        lock_file=LOCK_FILE,
        hung_file=HUNG_FILE,
        end_hung_s=config.health.end_hung_s,
        stop=end,
        configure=configure,
    ) as manager:
        answered = _serve(config, source, watch, manager, stop)
    log.info("daemon.stopped", answered=answered)
    return 0


def _serve(
    config: Config, source: AnswerSource | None, watch: Watch, manager: ServiceManager, stop: threading.Event
) -> int:
    """Load the models unless there is a source, and answer frames until told to stop; returns how many."""
    state = config.state.directory
    probe_targets = ProbeTargets(
        disks={"state": state, "actions": config.actions.directory},
        models=ModelIntegrity.of(config.models.directory or default_directory(), config.scoring.runtime),
        events_expected=config.watch.observer == "native",
    )
    if source is None:
        source = load_pipeline(config.models.directory, config.scoring.threads, config.rules, config.scoring.runtime)
    with open_boxes(config, source) as boxes, metrics_endpoint(state, config.health.metrics_port):
        counts = boxes.ledger.counts()
        structlog.get_logger().info("daemon.ready", models=source.models_digest[:12], **counts)
        Loop(
            boxes.inbox,
            watch,
            boxes.answerer,
            state,
            stop,
            manager=manager,
            probe_targets=probe_targets,
            upkeep=boxes.retention.step,
        ).run()
    return boxes.answerer.answered


@dataclass(frozen=True, slots=True)
class Boxes:
    """Inbox and outbox of one configuration, and what answers the frames of the one into the other."""

    inbox: Inbox
    ledger: Ledger
    answerer: Answerer
    retention: Retention


@contextmanager
def open_boxes(config: Config, source: AnswerSource) -> Iterator[Boxes]:
    """Open inbox and outbox; only for who holds the lock of the state directory.

    Raises:
        LedgerError: the ledger is not one of ours, or damaged.
        StorageError: the state or action directory cannot be written.
    """
    state = config.state.directory
    spool = Spool(config.actions.directory)
    folders = FrameFolders(
        archive=state / "archive" if config.watch.layout is Layout.SINGLE else None,
        quarantine=state / "quarantine",
    )
    floor_seq = max(spool.highest_seq(), folders.highest_archived())
    with _open_ledger(state / LEDGER_FILE, floor_seq) as ledger:
        loader = FrameLoader.of(config)
        answerer = Answerer(
            source,
            ledger,
            spool,
            folders,
            lifetime=timedelta(seconds=config.actions.lifetime_s),
            now=_now,
            reload=lambda row: reload_frame(loader, config.watch.directory, row),
        )
        inbox = Inbox(
            config.watch.directory,
            loader,
            InboxTimeouts(
                config.watch.rescan_s, config.watch.quiet_s, config.watch.settle_s, config.watch.unreadable_s
            ),
            ledger.knows,
        )
        stores = Stores(state / "archive", state / "quarantine", config.actions.directory, config.watch.directory)
        yield Boxes(inbox, ledger, answerer, Retention(config.retention, stores, ledger, _now))


def _open_ledger(path: Path, floor_seq: int) -> Ledger:
    """Open the ledger; a damaged one is set aside, and only a person says how it goes on.

    Raises:
        LedgerDamagedError: it is damaged, or was and nobody has said how to go on.
        LedgerError, StorageError: see `Ledger`.
    """
    log = structlog.get_logger()
    standing = damage_standing(path.parent)
    if standing is not None:
        log.error("ledger.damaged", error=LedgerDamagedError.code, reason=standing)
        raise LedgerDamagedError(standing)
    try:
        return Ledger(path, now=_now, floor_seq=floor_seq)
    except LedgerDamagedError as error:
        aside = set_aside(path, str(error), floor_seq, _now())
        log.exception("ledger.damaged", error=error.code, reason=error.message, aside=aside.name)
        raise


def make_watch(config: Config) -> Watch:
    """The watch on the directory that a configuration names, not started."""
    watch = config.watch
    return Watch(watch.directory, polling=watch.observer == "polling", period_s=watch.rescan_s / 2)


def reload_frame(loader: FrameLoader, watch_directory: Path, row: LedgerRow) -> LoadedFrame:
    """Read a taken frame again, from where its files are now.

    Raises:
        FrameError: its parameters cannot be used.
        PairIncompleteError: its files are gone, or others now lie under their names.
        StorageError: they cannot be read at present.
    """
    names = [name for name in (row.image_name, row.text_name) if name is not None]
    # A failed frame goes on from the archive to quarantine: where its files were is in the moves, like where they go.
    places = [*row.moves, *(Move(str(watch_directory / name), "") for name in names[len(row.moves) :])]
    paths = [Path(move.target if move.target and os.path.lexists(move.target) else move.source) for move in places]
    fault = _unusable(row)
    image_path, text_path = paths[0], paths[1] if len(paths) > 1 else None
    try:
        image, text = loader.read(None if isinstance(fault, _NEVER_READ) else image_path, text_path)
        frame = loader.build(row.stem, image_path, text_path, image, text, fault)
    except OSError as error:
        # With its directory a file may come back; alone it is gone.
        if isinstance(error, FileNotFoundError) and watch_directory.is_dir():
            raise PairIncompleteError(f"{error.filename}: gone after the frame was taken") from error
        raise storage_error(Path(str(error.filename)), "read", error) from error
    if (frame.image_digest, frame.text_digest) != (row.image_digest, row.text_digest):
        raise PairIncompleteError(f"{paths[0]}: overwritten after the frame was taken; what lies there is a new frame")
    return frame


_NEVER_READ = (FileUnreadableError, FileLinkError)


def _unusable(row: LedgerRow) -> FrameError | None:
    """Error of a taken frame's image, known without reading it again."""
    for kind in (*_NEVER_READ, AnswerFailedError):
        if row.reason_code == kind.code:
            return kind(row.reason_text or "")
    return None


def _now() -> datetime:
    return datetime.now(UTC)
