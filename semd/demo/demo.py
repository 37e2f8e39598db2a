"""`semd demo`: three processes, real files and a real socket; the virtual microscope gets sharp.

This process is the microscope: it hosts the virtual NanoStation and knows the truth. The daemon and the
Middle Client are started as a lab starts them, from a configuration file.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from semd.domain.axes import Axis
from semd.errors import ActionTextError, StorageError
from semd.protocol.action import Action, Status, decode_action, parse_file_name
from semd.protocol.pairing import Layout
from semd.simulator.field import Sample
from semd.simulator.frame_writer import FrameWriter
from semd.simulator.microscope import Scan, VirtualMicroscope
from semd.simulator.nanostation import NanoStation

_READ_BACK_MM = 1e-4


@dataclass(frozen=True, slots=True)
class DemoSpec:
    """Settings of the demo.

    Attributes:
        sample, magnification, seed: field of the virtual microscope.
        layout: `series` or `single`.
        dialect: `text`, or `aisem`, which moves the working distance only.
        models: folder of the weights; None for the weights that came with semd.
        timeout_s: timeout of every wait for an answer.
    """

    sample: Sample
    magnification: float
    seed: int
    layout: Layout = Layout.SERIES
    dialect: str = "text"
    models: Path | None = None
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class DemoStep:
    """One frame and its answer."""

    number: int
    scan: Scan
    action: Action


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Frames of the run and its duration; `final` is a scan at the final settings."""

    spec: DemoSpec
    steps: tuple[DemoStep, ...]
    final: Scan
    seconds: float

    def as_json(self) -> dict[str, object]:
        """Return the fields of the last line of output, as specified in the protocol."""
        last = self.steps[-1].action
        truth = self.final.truth
        return {
            "status": str(last.status),
            "frames": len(self.steps),
            "score": round(last.score, 4),
            "true_score": round(truth.true_score, 4),
            "wd_error_mm": round(truth.wd_error_mm, 5),
            "blur_px": round(truth.blur_px, 3),
            "brightness_contrast_ok": truth.brightness_contrast_ok,
            "seconds": round(self.seconds, 2),
        }


def run_demo(spec: DemoSpec, directory: Path, on_step: Callable[[DemoStep], None]) -> DemoResult:
    """Run the whole loop in `directory` until the run has ended.

    Raises:
        StorageError: no answer came within the timeout; the message names the log.
    """
    begun = time.monotonic()
    microscope = VirtualMicroscope(spec.sample, spec.magnification, spec.seed)
    if spec.dialect == "aisem":
        # The dialect has no command for brightness and contrast: the operator sets them beforehand.
        microscope.apply(
            brightness=microscope.detector.brightness_optimum, contrast=microscope.detector.contrast_optimum
        )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = _write_config(spec, directory, listener.getsockname()[1])
        station = NanoStation(microscope, FrameWriter(directory / "watch", spec.layout), spec.dialect)
        thread = threading.Thread(target=station.run, args=(listener,), daemon=True)
        with _processes(config, directory):
            thread.start()
            steps = _follow(spec, directory, station, on_step)
            _wait_until_applied(spec, steps[-1].action, station)
            station.stopping.set()
            thread.join(spec.timeout_s)
    # DONE requests no scan: its own frame is the final one.
    done = steps[-1].action.status is Status.DONE
    final = steps[-1].scan if done else microscope.scan()
    return DemoResult(spec, tuple(steps), final, time.monotonic() - begun)


def _write_config(spec: DemoSpec, directory: Path, port: int) -> Path:
    for name in ("watch", "actions", "state"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    axes = ["wd"] if spec.dialect == "aisem" else ["wd", "brightness", "contrast"]
    models = f"[models]\ndirectory = {json.dumps(str(spec.models.resolve()))}\n" if spec.models is not None else ""
    path = directory / "semd.toml"
    path.write_text(
        f"""[watch]
directory = "watch"
layout = "{spec.layout}"

[actions]
directory = "actions"

[state]
directory = "state"

[link]
port = {port}
dialect = "{spec.dialect}"

[control]
axes = {json.dumps(axes)}

[limits]
wd_mm = [3.0, 20.0]
brightness = [0.0, 100.0]
contrast = [0.0, 100.0]

{models}"""
    )
    return path


@contextmanager
def _processes(config: Path, directory: Path) -> Iterator[None]:
    """Run the daemon and the Middle Client; stop them by SIGTERM on exit."""
    children = []
    with (directory / "processes.log").open("wb") as log:
        for command in ("run", "middle-client"):
            arguments = [sys.executable, "-m", "semd", command, "--config", str(config)]
            children.append(subprocess.Popen(arguments, stdout=log, stderr=log))  # noqa: S603
        try:
            yield
        finally:
            for child in children:
                child.send_signal(signal.SIGTERM)
            for child in children:
                try:
                    child.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()


def _follow(
    spec: DemoSpec, directory: Path, station: NanoStation, on_step: Callable[[DemoStep], None]
) -> list[DemoStep]:
    """Read the actions as they appear until one ends the run; the n-th action answers the n-th frame."""
    steps: list[DemoStep] = []
    seen: set[str] = set()
    deadline = time.monotonic() + spec.timeout_s
    while not steps or not steps[-1].action.status.is_terminal:
        for action in _new_actions(directory / "actions", seen):
            steps.append(DemoStep(len(steps), station.taken[len(steps)].scan, action))
            on_step(steps[-1])
            deadline = time.monotonic() + spec.timeout_s
        if time.monotonic() > deadline:
            raise StorageError(
                f"no answer to frame {len(steps)} within {spec.timeout_s:g} s; see {directory / 'processes.log'}"
            )
        time.sleep(0.02)
    return steps


def _wait_until_applied(spec: DemoSpec, last: Action, station: NanoStation) -> None:
    """Wait until the microscope has applied the last action: GIVE-UP moves back to the best frame."""
    if spec.dialect == "text":
        station.ended.wait(spec.timeout_s)
        return
    deadline = time.monotonic() + spec.timeout_s
    while abs(station.microscope.wd_mm - last.targets[Axis.WD]) > _READ_BACK_MM and time.monotonic() < deadline:
        time.sleep(0.02)


def _new_actions(directory: Path, seen: set[str]) -> list[Action]:
    found = []
    for path in sorted(directory.rglob("action-*.txt"), key=lambda path: path.name):
        if path.name in seen or parse_file_name(path.name) is None:
            continue
        try:
            found.append(decode_action(path.read_bytes()))
        except FileNotFoundError:
            continue  # the Middle Client has just moved it; the next look finds it
        except ActionTextError:
            continue
        seen.add(path.name)
    return found
