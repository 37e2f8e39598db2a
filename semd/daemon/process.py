"""The daemon's process: wiring, one instance per state directory, stop on signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from semd import __version__
from semd.config import Config
from semd.daemon.answering import Answerer, AnswerSource, Places
from semd.daemon.loop import Loop
from semd.daemon.metrics_endpoint import metrics_endpoint
from semd.daemon.model_seal import ModelSeal
from semd.daemon.vitals import Surroundings
from semd.domain.pairing import Layout
from semd.errors import ConfigError, HalfMissingError
from semd.inbox.frame import LoadedFrame
from semd.inbox.inbox import Inbox, Patience
from semd.inbox.load import FrameLoader
from semd.inbox.watch import Watch
from semd.logs import configure_logs
from semd.model_store import default_directory
from semd.notify import ServiceManager
from semd.outbox.ledger import Ledger
from semd.outbox.rows import LedgerRow
from semd.outbox.spool import Spool
from semd.pipeline import load_pipeline
from semd.storage import InstanceLock, storage_error

LEDGER_FILE = "ledger.sqlite"
LOCK_FILE = "daemon.lock"


def run_daemon(config: Config, stop: threading.Event | None = None) -> int:
    """Run until a signal or `stop`; returns 0.

    Raises:
        ConfigError: the watch directory is not there.
        ModelError: the models cannot be loaded.
        LedgerError: the ledger is not one of ours, or damaged.
        StorageError: the state or action directory cannot be written, or another daemon uses it.
    """
    state = config.state.directory
    if not config.watch.directory.is_dir():
        raise ConfigError(f"[watch] directory {config.watch.directory} is not there; make it or correct the path")
    stop = stop or threading.Event()
    with InstanceLock(state / LOCK_FILE):
        configure_logs(
            config.log_directory / "daemon.log", level=config.log.level, max_bytes=int(config.log.max_mb * 1e6)
        )
        log = structlog.get_logger()
        log.info("daemon.starting", version=__version__, watch=str(config.watch.directory))
        watch = make_watch(config)
        _stop_on_signals(stop, watch)
        manager = ServiceManager.of_environment()
        surroundings = Surroundings(
            disks={"state": state, "actions": config.actions.directory},
            models=ModelSeal.of(config.models.directory or default_directory(), config.scoring.runtime),
            events_expected=config.watch.observer == "native",
        )
        pipeline = load_pipeline(config.models.directory, config.scoring.threads, config.rules, config.scoring.runtime)
        with open_boxes(config, pipeline) as boxes, metrics_endpoint(state, config.health.metrics_port):
            log.info("daemon.ready", models=pipeline.models_digest[:12], **boxes.ledger.counts())
            Loop(boxes.inbox, watch, boxes.answerer, state, stop, manager=manager, surroundings=surroundings).run()
        log.info("daemon.stopped", answered=boxes.answerer.answered)
    return 0


@dataclass(frozen=True, slots=True)
class Boxes:
    """Inbox and outbox of one configuration, and what answers the frames of the one into the other."""

    inbox: Inbox
    ledger: Ledger
    answerer: Answerer


@contextmanager
def open_boxes(config: Config, source: AnswerSource) -> Iterator[Boxes]:
    """Open inbox and outbox; only for who holds the lock of the state directory.

    Raises:
        LedgerError: the ledger is not one of ours, or damaged.
        StorageError: the state or action directory cannot be written.
    """
    state = config.state.directory
    spool = Spool(config.actions.directory)
    with Ledger(state / LEDGER_FILE, now=_now, floor_seq=spool.highest_seq()) as ledger:
        loader = FrameLoader.of(config)
        places = Places(
            archive=state / "archive" if config.watch.layout is Layout.SINGLE else None,
            quarantine=state / "quarantine",
        )
        answerer = Answerer(
            source,
            ledger,
            spool,
            places,
            lifetime=timedelta(seconds=config.actions.lifetime_s),
            now=_now,
            reload=lambda row: reload_frame(loader, config.watch.directory, row),
        )
        inbox = Inbox(
            config.watch.directory,
            loader,
            Patience(config.watch.rescan_s, config.watch.quiet_s, config.watch.settle_s),
            ledger.knows,
        )
        yield Boxes(inbox, ledger, answerer)


def make_watch(config: Config) -> Watch:
    """The watch on the directory that a configuration names, not started."""
    watch = config.watch
    return Watch(watch.directory, polling=watch.observer == "polling", period_s=watch.rescan_s / 2)


def reload_frame(loader: FrameLoader, watch_directory: Path, row: LedgerRow) -> LoadedFrame:
    """Read a taken frame again, from where its files are now.

    Raises:
        FrameError: its parameters cannot be used.
        HalfMissingError: its files are gone, or others now lie under their names.
        StorageError: they cannot be read at present.
    """
    moved = {Path(move.source).name: Path(move.target) for move in row.moves}

    def find(name: str) -> Path:
        target = moved.get(name)
        return target if target is not None and target.exists() else watch_directory / name

    names = [name for name in (row.image_name, row.text_name) if name is not None]
    paths = [find(name) for name in names]
    try:
        frame = loader.load(row.stem, paths[0], paths[1] if len(paths) > 1 else None)
    except OSError as error:
        # With its directory a file may come back; alone it is gone.
        if isinstance(error, FileNotFoundError) and watch_directory.is_dir():
            raise HalfMissingError(f"{error.filename}: gone after the frame was taken") from error
        raise storage_error(Path(str(error.filename)), "read", error) from error
    if (frame.image_digest, frame.text_digest) != (row.image_digest, row.text_digest):
        raise HalfMissingError(f"{paths[0]}: overwritten after the frame was taken; what lies there is a new frame")
    return frame


def _now() -> datetime:
    return datetime.now(UTC)


def _stop_on_signals(stop: threading.Event, watch: Watch) -> None:
    """SIGTERM and Ctrl+C (on Windows also Ctrl+Break) end the loop after the frame in hand."""

    def end(_number: int, _frame: object) -> None:
        stop.set()
        watch.wake()

    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, end)
