"""A virtual SEM behind real files, a real socket and the real Middle Client process, for calibrations."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from semd.model_store import default_directory, load_model, store_model
from semd.protocol.pairing import Layout
from semd.scoring.network import Architecture, ScoringNetwork
from semd.scoring.stored import network_to_bytes
from semd.simulator.frame_writer import FrameWriter
from semd.simulator.microscope import VirtualMicroscope
from semd.simulator.nanostation import NanoStation

SMALL = Architecture(height_px=240, width_px=320, replicas=2)
ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
DEADLINE_S = 60.0
# Eleven frames of coarse and nine of fine pass are enough for a focus.
SMALL_SWEEP = ("--reach", "10", "--coarse-step", "2", "--fine-reach", "3", "--fine-step", "0.75")


def write_models(directory: Path, seed: int = 0) -> Path:
    """A models folder: the actor that came with semd, and a small scorer that was never trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ScoringNetwork(SMALL)
    actor = load_model(default_directory(), "actor")
    store_model(directory, "actor", actor.data, actor.entry.model_dump(exclude={"sha256"}))
    entry = {"file": "scorer.safetensors", "input": "frames", "output": "score", "training": {}, "figures": {}}
    store_model(directory, "scorer", network_to_bytes(network), entry)
    return directory


def good_microscope(start_u: float, seed: int = 0) -> VirtualMicroscope:
    """Tin balls at x2000 with brightness and contrast well set, some focus units out of focus."""
    microscope = VirtualMicroscope("tinball", 2000.0, seed)
    detector = microscope.detector
    microscope.apply(
        wd_mm=round(microscope.focus_wd_mm + start_u * microscope.wd_unit_mm, 4),
        brightness=round(detector.brightness_optimum, 2),
        contrast=round(detector.contrast_optimum, 2),
    )
    return microscope


@dataclass
class CalibrationHarness:
    """Directory, configuration, virtual SEM and microscope of one calibration."""

    directory: Path
    config: Path
    station: NanoStation
    microscope: VirtualMicroscope

    def calibrate(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "semd", "calibrate", "--config", str(self.config), "--json"]
        command += ["--out", str(self.directory / "better"), *SMALL_SWEEP, *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT)

    def finished(self, process: subprocess.Popen[str]) -> tuple[int, dict[str, object], str]:
        out, err = process.communicate(timeout=DEADLINE_S)
        assert out.strip(), err
        return process.returncode, json.loads(out.splitlines()[-1]), out + err


@contextmanager
def running(
    directory: Path,
    microscope: VirtualMicroscope,
    *,
    dialect: str = "text",
    layout: Layout = Layout.SERIES,
    with_client: bool = True,
) -> Iterator[CalibrationHarness]:
    """The microscope's side, and the Middle Client as a process of its own; without it patience is short."""
    for name in ("watch", "actions", "state"):
        (directory / name).mkdir()
    write_models(directory / "models")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        axes = '["wd"]' if dialect == "aisem" else '["wd", "brightness", "contrast"]'
        config = directory / "semd.toml"
        config.write_text(
            f"""[watch]
directory = "watch"
layout = "{layout}"
rescan_s = 0.1
quiet_s = 0.1
[actions]
directory = "actions"
[state]
directory = "state"
[link]
port = {listener.getsockname()[1]}
dialect = "{dialect}"
confirm_timeout_s = {30.0 if with_client else 2.0}
[control]
axes = {axes}
[limits]
wd_mm = [3.0, 20.0]
[models]
directory = "models"
"""
        )
        station = NanoStation(microscope, FrameWriter(directory / "watch", layout), dialect)
        thread = threading.Thread(target=station.run, args=(listener,))
        client = None
        if with_client:
            command = [sys.executable, "-m", "semd", "middle-client", "--config", str(config)]
            client = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
        thread.start()
        try:
            yield CalibrationHarness(directory, config, station, microscope)
        finally:
            if client is not None:
                client.terminate()
                client.wait(DEADLINE_S)
            station.stopping.set()
            thread.join(DEADLINE_S)
