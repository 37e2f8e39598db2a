"""Driver of the instrument for a sweep: command a working distance and receive the next frame.

It uses the daemon's inbox and outbox: each frame is claimed in the ledger and answered by an action file, which the
separate Middle Client forwards to the microscope. The daemon therefore knows these frames afterwards, and can recover
from a crash during the sweep.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from semd.config import Config
from semd.daemon.daemon_process import LOCK_FILE, Boxes, make_watch, open_boxes
from semd.decision.read_back import differs, field_changed
from semd.decision.rules import RunRules
from semd.decision.run import Decision, Reason, Run
from semd.domain.axes import Axis, Parameters
from semd.errors import CalibrationError, ConfigError
from semd.inbox.frame import LoadedFrame, RejectedFrame
from semd.inbox.inbox import Item
from semd.inbox.watch import Watch
from semd.pipeline import Answer, Pipeline
from semd.protocol.action import Status, round_target
from semd.service.logs import configure_logs
from semd.service.stop_signals import stopping_on_signals
from semd.service.storage import InstanceLock

_UNCARRIED = ("refused", "expired", "uncertain")
_MAX_DAMAGED = 3


@dataclass(frozen=True, slots=True)
class InstrumentFrame:
    """Frame whose parameters read back as commanded.

    Attributes:
        image: uint8 (H, W).
        parameters: parameters as read.
    """

    image: NDArray[np.uint8]
    parameters: Parameters


@dataclass(slots=True)
class CommandedAnswers:
    """Source of answers that are commanded by the sweep instead of decided; frames are measured by the pipeline.

    Attributes:
        pipeline: measures the frames.
        status, targets: status and targets of the next answer; without targets the microscope stays.
        step: number of answers so far.
    """

    pipeline: Pipeline
    status: Status = Status.HOLD
    targets: dict[Axis, float] | None = None
    step: int = 0

    @property
    def models_digest(self) -> str:
        """Digest of the pipeline's models."""
        return self.pipeline.models_digest

    def answer(self, run: Run | None, stem: str, parameters: Parameters, image: NDArray[np.uint8] | None) -> Answer:  # noqa: ARG002 - what was dictated does not depend on the run
        """Measure a frame and return the commanded answer."""
        measured = self.pipeline.answer(None, stem, parameters, image)
        now = parameters.controlled(self.pipeline.rules.axes)
        targets = {axis: round_target(axis, value) for axis, value in (self.targets or now).items()}
        decision = Decision(
            status=self.status,
            reason=Reason.CALIBRATING,
            targets=targets,
            deltas={axis: round_target(axis, target - now[axis]) for axis, target in targets.items()},
            reward=None if self.step == 0 else 0.0,
            step=self.step,
            starts_run=self.step == 0,
            # A frame after the sweep starts a new run.
            restarts_next=self.status.is_terminal,
        )
        self.step += 1
        return replace(measured, decision=decision)


class Instrument:
    """The microscope behind inbox, outbox and Middle Client. Made by `open_instrument`.

    Args:
        config: configuration of the instrument.
        commanded: source of the answers.
        boxes: inbox and outbox.
        watch: watch on the directory of the frames.
        stop: event set by Ctrl+C.
    """

    def __init__(
        self, config: Config, commanded: CommandedAnswers, boxes: Boxes, watch: Watch, stop: threading.Event
    ) -> None:
        self._config = config
        self._commanded = commanded
        self._rules: RunRules = commanded.pipeline.rules
        self._boxes = boxes
        self._watch = watch
        self._stop = stop
        self._present: Item | None = None
        self._first: Parameters | None = None
        self._sent_wd_mm = float("nan")
        self._rejected = ""

    @property
    def start(self) -> Parameters:
        """Parameters of the first frame."""
        if self._first is None:
            raise CalibrationError("no frame has come yet")
        return self._first

    def begin(self) -> InstrumentFrame:
        """Wait for the first frame of the sweep.

        Raises:
            CalibrationError: no frame came in time, the frame cannot be used, or others are waiting unanswered.
        """
        if self._boxes.ledger.unfinished():
            raise CalibrationError("the daemon left unfinished frames: start it, let it finish them, then stop it")
        self._boxes.answerer.recover()
        item = self._receive(awaited="the first frame: save one at the instrument", may_stop=True)
        if self._boxes.inbox.waiting > 1:
            raise CalibrationError(
                f"{self._boxes.inbox.waiting} frames in {self._config.watch.directory} wait unanswered: "
                "move them away, then save one frame"
            )
        self._present = item
        seen = self._check_image(self._loaded(item))
        self._first = seen.parameters
        return seen

    def move(self, wd_mm: float) -> InstrumentFrame:
        """Move to a working distance, within the limits, and wait for the frame taken there.

        Brightness and contrast stay as they were on the first frame.

        Raises:
            CalibrationError: no frame came in time, a parameter does not read back as commanded, the field was
                changed, or the frames stay damaged.
            KeyboardInterrupt: Ctrl+C since the last frame; the frame in hand can still be answered (`retreat`).
        """
        if self._stop.is_set():
            raise KeyboardInterrupt
        return self._go(wd_mm)

    def end(self) -> None:
        """Answer the frame in hand with DONE: everything stays as it is."""
        self._answer(Status.DONE, None)

    def retreat(self) -> None:
        """Go back to the working distance of the first frame, and end there.

        Raises:
            CalibrationError: it could not be done; says where the working distance was last sent.
        """
        if self._first is None:
            return
        if self._present is None:
            raise CalibrationError(
                f"the working distance cannot be brought back to {self._first.wd_mm:.4f} mm while no frame comes; "
                f"it was last sent to {self._sent_wd_mm:.4f} mm"
            )
        if abs(self._loaded(self._present).parameters.wd_mm - self._first.wd_mm) > self._rules.readback_wd_mm:
            self._go(self._first.wd_mm)
        self.end()

    def _go(self, wd_mm: float) -> InstrumentFrame:
        targets = self.start.controlled(self._rules.axes)
        targets[Axis.WD] = round_target(Axis.WD, self._rules.limits[Axis.WD].clamp(wd_mm))
        self._sent_wd_mm = targets[Axis.WD]
        self._answer(Status.ADJUST, targets)
        for _ in range(_MAX_DAMAGED):
            self._present = self._receive(awaited=f"the frame at WD {targets[Axis.WD]:.4f} mm")
            frame = self._loaded(self._present)
            self._check_read_back(targets, frame.parameters)
            if frame.image is not None:
                break
            # A damaged scan is scanned again.
            self._answer(Status.HOLD, None)
        else:
            raise CalibrationError(f"{_MAX_DAMAGED} damaged frames in a row at WD {targets[Axis.WD]:.4f} mm")
        return self._check_image(frame)

    def _answer(self, status: Status, targets: dict[Axis, float] | None) -> None:
        """Answer the present frame. A frame that was answered before gets no action, so the next one is answered."""
        self._commanded.status, self._commanded.targets = status, targets
        while True:
            item, self._present = self._present, None
            if item is None:
                item = self._receive(awaited="a frame to answer")
            before = self._boxes.answerer.answered
            self._boxes.answerer.answer(self._loaded(item), item.fingerprint)
            self._boxes.inbox.settle(item)
            if self._boxes.answerer.answered > before:
                return

    def _receive(self, *, awaited: str, may_stop: bool = False) -> Item:
        timeout_s = self._config.link.confirm_timeout_s
        deadline_s = time.monotonic() + timeout_s
        while True:
            if may_stop and self._stop.is_set():
                raise KeyboardInterrupt
            rescan_now = not self._watch.healthy()
            if rescan_now:
                self._watch.start()
            now_s = time.monotonic()
            for item in self._boxes.inbox.poll(self._watch.drain(), now_s, force_rescan=rescan_now):
                if isinstance(item.content, LoadedFrame):
                    return item
                self._boxes.answerer.reject(item.content, item.fingerprint)
                self._boxes.inbox.settle(item)
                self._rejected = f"; {item.content.stem} was put in quarantine: {item.content.error}"
            self._check_carried()
            if now_s > deadline_s:
                raise CalibrationError(
                    f"{awaited} has not come within {timeout_s:g} s; does `semd middle-client` run, and is its link "
                    f"up?{self._rejected}"
                )
            self._watch.wait(max(min(self._boxes.inbox.next_look_s(now_s), 1.0), 0.01))

    def _check_carried(self) -> None:
        """Raise an error if the Middle Client has not carried out the last action."""
        actions = self._config.actions.directory
        name = f"action-{self._boxes.ledger.highest_seq():08d}-*.txt"
        for folder in _UNCARRIED:
            if self._commanded.step and any((actions / folder).glob(name)):
                raise CalibrationError(f"the Middle Client has put an action into {actions / folder}; its log says why")

    def _check_read_back(self, targets: dict[Axis, float], parameters: Parameters) -> None:
        if field_changed(self.start, parameters, self._rules):
            raise CalibrationError("magnification, sample or stage changed during the sweep")
        if differs(targets, parameters, self._rules):
            sent = ", ".join(f"{axis} {value:g}" for axis, value in targets.items())
            read = ", ".join(f"{axis} {parameters.value(axis):g}" for axis in targets)
            raise CalibrationError(f"a parameter does not read back as commanded: sent {sent}; read {read}")

    @staticmethod
    def _loaded(item: Item) -> LoadedFrame:
        if isinstance(item.content, RejectedFrame):
            raise item.content.error
        return item.content

    @staticmethod
    def _check_image(frame: LoadedFrame) -> InstrumentFrame:
        if frame.image is None:
            raise CalibrationError(f"{frame.stem}: the image cannot be used: {frame.image_error}")
        return InstrumentFrame(frame.image, frame.parameters)


@contextmanager
def open_instrument(config: Config, pipeline: Pipeline) -> Iterator[Instrument]:
    """Open the instrument in place of the daemon.

    Ctrl+C (SIGINT) and SIGTERM stop the next `move`; a second signal ends the process at once.

    Raises:
        ConfigError: the watch directory does not exist, or the working distance is not among the axes.
        StorageError: the daemon is running, or a directory cannot be written.
        LedgerError: the ledger is not a ledger of semd, or is damaged.
    """
    if not config.watch.directory.is_dir():
        raise ConfigError(f"[watch] directory {config.watch.directory} is not there; make it or correct the path")
    if Axis.WD not in pipeline.rules.axes:
        raise ConfigError("[control] axes must name wd: a sweep moves the working distance")
    state = config.state.directory
    stop = threading.Event()
    with InstanceLock(state / LOCK_FILE):
        # Log to the file only; standard output is reserved for the command's own output.
        configure_logs(
            config.log_directory / "calibrate.log",
            level=config.log.level,
            max_bytes=int(config.log.max_mb * 1e6),
            stream=io.StringIO(),
        )
        watch = make_watch(config)
        commanded = CommandedAnswers(pipeline)

        def request_stop() -> None:
            stop.set()
            watch.wake()

        try:
            with stopping_on_signals(request_stop, second_ends=True), open_boxes(config, commanded) as boxes:
                yield Instrument(config, commanded, boxes, watch, stop)
        finally:
            watch.stop()
