"""Virtual NanoStation: a virtual microscope that saves real files and serves a real socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from semd.domain.axes import Axis, Parameters
from semd.protocol.action import Action, Status
from semd.protocol.parameter_text import format_parameters
from semd.simulator.fault_plan import FaultPlan
from semd.simulator.faulty_link import FaultySemLink, LinkFault
from semd.simulator.frame_writer import FrameWriter
from semd.simulator.microscope import Scan, VirtualMicroscope


@dataclass(frozen=True, slots=True)
class ScannedFrame:
    """Frame that the virtual SEM scanned and saved.

    Attributes:
        number: number of the frame, from 0.
        stem: stem of its files.
        scan: the scan.
    """

    number: int
    stem: str
    scan: Scan


@dataclass(slots=True)
class NanoStation:
    """SEM software in a loop: scan, save the pair, execute a command, scan again, until stopped.

    Attributes:
        microscope: the virtual microscope.
        writer: writer of the pairs.
        dialect: wire dialect of the link.
        on_frame: called with every frame saved.
        on_applied: called with every action applied (text dialect).
        taken: all frames saved.
        ended: set after DONE or GIVE-UP.
        stopping: event that ends `run` when set.
        link_faults: schedule of faults on the link; empty by default.
    """

    microscope: VirtualMicroscope
    writer: FrameWriter
    dialect: str = "text"
    on_frame: Callable[[ScannedFrame], None] = lambda _: None
    on_applied: Callable[[Action], None] = lambda _: None
    taken: list[ScannedFrame] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)
    link_faults: FaultPlan[LinkFault] = field(default_factory=FaultPlan)
    _last_action: str | None = None

    def run(self, listener: socket.socket) -> None:
        """Save the first frame, then serve the link until `stopping` is set."""
        self.writer.stopped = self.stopping.is_set
        self.scan_and_save()
        link = FaultySemLink(self, self.stopping.is_set, plan=self.link_faults, pause=self.stopping.wait)
        link.serve(listener, self.dialect)

    def scan_and_save(self) -> None:
        """Scan a frame at the current settings and save its pair."""
        scan = self.microscope.scan()
        parameters = Parameters(
            magnification=self.microscope.magnification,
            wd_mm=scan.wd_mm,
            brightness=scan.brightness,
            contrast=scan.contrast,
            hv_kv=15.0,
            sample=self.microscope.sample,
            action_id=self._last_action,
        )
        number = len(self.taken)
        stem = self.writer.write(number, scan.image, format_parameters(parameters))
        if stem is not None:
            self.taken.append(ScannedFrame(number, stem, scan))
            self.on_frame(self.taken[-1])

    def on_action(self, action: Action) -> Callable[[], None]:
        """Move the knobs to the action's targets; returns the scan that follows, or the end of the run."""
        self.microscope.apply(
            wd_mm=action.targets.get(Axis.WD),
            brightness=action.targets.get(Axis.BRIGHTNESS),
            contrast=action.targets.get(Axis.CONTRAST),
        )
        self._last_action = action.id
        self.on_applied(action)
        if action.status in (Status.DONE, Status.GIVE_UP):
            return self.ended.set
        return self.scan_and_save

    def on_working_distance(self, wd_mm: float) -> Callable[[], None]:
        """Move the working distance; returns the scan that follows every move of the `aisem` dialect."""
        self.microscope.apply(wd_mm=wd_mm)
        return self.scan_and_save
