"""`semd evaluate loop`: overhead of the daemon around the network, measured from outside a real daemon process.

The time of a frame is measured from the closing of the pair's second file to the renaming of the action file. The
network's share is read from the daemon's log. The bare forward pass is timed in this process before and after, on the
same frames.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semd.config import Config, load_config
from semd.domain.axes import Parameters
from semd.errors import StorageError
from semd.model_store import default_directory, load_model
from semd.protocol.parameter_text import format_parameters
from semd.replay.player import replay_frames
from semd.scoring.scorer import Scorer
from semd.simulator.frame_writer import FrameWriter
from semd.simulator.microscope import VirtualMicroscope

Image = NDArray[np.uint8]
Times = NDArray[np.float64]

_TIMEOUT_S = 30.0
_MAGNIFICATION = 2000.0


def measure_loop(frames: int, models: Path | None, replayed: int) -> dict[str, object]:
    """Time `frames` pairs through a real daemon, then replay `replayed` recorded ones.

    Raises:
        StorageError: the daemon did not answer; the message names its log.
    """
    with tempfile.TemporaryDirectory(prefix="semd-loop-") as name:
        directory = Path(name)
        config_path = _write_config(directory, models)
        config = load_config(config_path)
        scorer = Scorer.load(load_model(models or default_directory(), "scorer").data, threads=1)
        images = _images()
        bare_before = _bare_forward_ms(scorer, images, frames)
        ready_s, memory_mb, around, network = _time_daemon(config_path, config, images, frames)
        bare_after = _bare_forward_ms(scorer, images, frames)
        bare = np.concatenate((bare_before, bare_after))
        recording = directory / "recording"
        recording.mkdir()
        writer = FrameWriter(recording)
        for number in range(replayed):
            writer.write(number, images[number % len(images)], _text(number))
        played = replay_frames(recording, config, directory / "replayed")
    return {
        "frames": frames,
        "daemon_ready_s": round(ready_s, 2),
        "daemon_memory_mb": round(memory_mb, 1),
        "close_to_rename_p50_ms": _percentile(around, 50),
        "close_to_rename_p99_ms": _percentile(around, 99),
        "bare_forward_p50_ms": _percentile(bare, 50),
        "bare_forward_p99_ms": _percentile(bare, 99),
        "network_in_the_daemon_p50_ms": _percentile(network, 50),
        "around_the_network_p50_ms": _percentile(around - network, 50),
        "around_the_network_p99_ms": _percentile(around - network, 99),
        "ratio_to_bare_p50": round(float(np.median(around) / np.median(bare)), 3),
        "replayed_frames": played["answered"],
        "replay_frames_per_second": played["frames_per_second"],
        "replay_peak_memory_mb": played["peak_memory_mb"],
    }


def _write_config(directory: Path, models: Path | None) -> Path:
    for part in ("watch", "actions", "state"):
        (directory / part).mkdir()
    path = directory / "semd.toml"
    lines = [f'[{part}]\ndirectory = "{part}"' for part in ("watch", "actions", "state")]
    if models is not None:
        lines.append(f"[models]\ndirectory = {json.dumps(str(models.resolve()))}")
    path.write_text("\n".join(lines) + "\n")
    return path


def _images() -> list[Image]:
    microscope = VirtualMicroscope("tinball", _MAGNIFICATION, 1)
    images = []
    for wd_mm in np.linspace(9.0, 11.0, 16):
        microscope.apply(wd_mm=float(wd_mm), brightness=50.0, contrast=50.0)
        images.append(microscope.scan().image)
    return images


def _text(number: int) -> str:
    # A new sample each time: every frame starts a run and takes the longest path through the rules.
    return format_parameters(Parameters(_MAGNIFICATION, 10.0, 50.0, 50.0, sample=f"field {number}"))


def _bare_forward_ms(scorer: Scorer, images: list[Image], count: int) -> Times:
    times = []
    for number in range(count):
        begun = time.perf_counter()
        scorer.score(images[number % len(images)], _MAGNIFICATION)
        times.append((time.perf_counter() - begun) * 1e3)
    return np.array(times)


@contextmanager
def _daemon(config_path: Path, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        arguments = [sys.executable, "-m", "semd", "run", "--config", str(config_path)]
        process = subprocess.Popen(arguments, stdout=output, stderr=output)  # noqa: S603
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)


def _time_daemon(
    config_path: Path, config: Config, images: list[Image], frames: int
) -> tuple[float, float, Times, Times]:
    """Time frames through a daemon.

    Returns:
        Seconds until ready, resident memory in MB, and milliseconds of each frame in total and in the network.
    """
    log = config_path.with_name("daemon.log")
    begun = time.monotonic()
    with _daemon(config_path, log):
        _wait((config.state.directory / "health.json").exists, log)
        ready_s = time.monotonic() - begun
        writer = FrameWriter(config.watch.directory)
        times = []
        for number in range(frames):
            before = _count(config.actions.directory)
            writer.write(number, images[number % len(images)], _text(number))
            closed = time.perf_counter()
            _wait(partial(_has_more, config.actions.directory, before), log)
            times.append((time.perf_counter() - closed) * 1e3)
        _wait(lambda: _health(config).get("answered") == frames, log)
        memory_mb = float(_health(config)["memory_mb"])
    lines = (config.state.directory / "logs" / "daemon.log").read_text("utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    network = [event["scoring_ms"] for event in events if event["event"] == "frame.answered"]
    return ready_s, memory_mb, np.array(times), np.array(network)


def _health(config: Config) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((config.state.directory / "health.json").read_bytes())
    return values


def _wait(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise StorageError(f"the daemon did not answer within {_TIMEOUT_S:g} s; see {log}")
        time.sleep(0.0005)


def _has_more(directory: Path, before: int) -> bool:
    return _count(directory) > before


def _count(directory: Path) -> int:
    return sum(entry.name.startswith("action-") for entry in os.scandir(directory))


def _percentile(values: Times, percent: float) -> float:
    return round(float(np.percentile(values, percent)), 3)
