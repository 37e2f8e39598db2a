"""A recorded sequence replays to the same actions, byte for byte except the stamps (protocol, section 4)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from semd.config import load_config
from semd.daemon.daemon_process import run_daemon
from semd.domain.axes import Parameters
from semd.errors import DatasetError
from semd.protocol.parameter_text import format_parameters
from semd.replay.player import list_recording, replay_frames
from semd.replay.record import record_frames
from semd.service.storage import InstanceLock
from semd.simulator.frame_writer import FrameWriter
from semd.simulator.microscope import VirtualMicroscope

STAMPS = re.compile(rb"^(ISSUED|EXPIRES|CRC32)=.*\n", re.MULTILINE)


def lab(tmp_path: Path, layout: str = "series") -> Path:
    for name in ("watch", "actions", "state"):
        (tmp_path / name).mkdir()
    path = tmp_path / "semd.toml"
    path.write_text(
        f"""[watch]
directory = "watch"
layout = "{layout}"
rescan_s = 0.1
quiet_s = 0.05
[actions]
directory = "actions"
[state]
directory = "state"
"""
    )
    return path


def unstamped(directory: Path) -> dict[str, bytes]:
    return {path.name: STAMPS.sub(b"", path.read_bytes()) for path in directory.glob("action-*.txt")}


def write_session(watch: Path, count: int) -> None:
    """Frames as an operator would leave them: some runs, a knob turned by hand, a change of sample."""
    microscope = VirtualMicroscope("tinball", 2000.0, 5)
    writer = FrameWriter(watch)
    for number in range(count):
        scan = microscope.scan()
        sample = "tin" if number < count // 2 else "grid"
        text = format_parameters(Parameters(2000.0, scan.wd_mm, scan.brightness, scan.contrast, sample=sample))
        writer.write(number, scan.image, text)
        if number % 3 == 2:
            microscope.apply(wd_mm=microscope.wd_mm - 0.1)


def answer_all(config_path: Path, count: int) -> None:
    """Run the daemon in this process until it has answered `count` frames."""
    config = load_config(config_path)
    stop = threading.Event()

    def watch_for_the_end() -> None:
        while len(list(config.actions.directory.glob("action-*.txt"))) < count and not stop.wait(0.05):
            pass
        stop.set()

    watcher = threading.Thread(target=watch_for_the_end)
    watcher.start()
    try:
        assert run_daemon(config, stop) == 0
    finally:
        stop.set()
        watcher.join()


def test_a_recording_replays_to_the_same_actions(tmp_path: Path) -> None:
    path = lab(tmp_path)
    config = load_config(path)
    write_session(config.watch.directory, 8)
    answer_all(path, 8)
    assert record_frames(config, tmp_path / "recording") == {"frames": 8, "missing": 0}
    summary = replay_frames(tmp_path / "recording", config, tmp_path / "again", now=datetime(2030, 1, 1, tzinfo=UTC))
    assert summary["answered"] == 8
    assert unstamped(tmp_path / "again") == unstamped(config.actions.directory)
    assert len(unstamped(tmp_path / "again")) == 8


def test_a_daemon_stopped_and_started_in_the_middle_gives_the_same_actions(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, broken = lab(tmp_path / "a"), lab(tmp_path / "b")
    write_session(tmp_path / "a" / "watch", 6)
    answer_all(whole, 6)
    files = sorted((tmp_path / "a" / "watch").iterdir())
    for part in (files[:6], files[6:]):
        for file in part:
            (tmp_path / "b" / "watch" / file.name).write_bytes(file.read_bytes())
        before = len(unstamped(tmp_path / "b" / "actions"))
        answer_all(broken, before + len(part) // 2)
    assert unstamped(tmp_path / "b" / "actions") == unstamped(tmp_path / "a" / "actions")


def test_an_archive_of_the_single_layout_keeps_order_and_stems(tmp_path: Path) -> None:
    for name in ("00000002~ResponseImage", "00000010~ResponseImage", "00000001~ResponseImage"):
        (tmp_path / f"{name}.jpg").touch()
        (tmp_path / f"{name}.txt").touch()
    (tmp_path / "00000003~ResponseImage.jpg").touch()  # half a pair is not played
    frames = list_recording(tmp_path, load_config(lab(tmp_path)))
    assert [(frame.seq, frame.stem) for frame in frames] == [
        (1, "ResponseImage"),
        (2, "ResponseImage"),
        (10, "ResponseImage"),
    ]


def test_mistakes_are_named(tmp_path: Path) -> None:
    config = load_config(lab(tmp_path))
    with pytest.raises(DatasetError, match="no whole pair"):
        replay_frames(tmp_path / "watch", config, tmp_path / "out")
    with pytest.raises(DatasetError, match="cannot be read"):
        replay_frames(tmp_path / "none", config, tmp_path / "out")
    with pytest.raises(DatasetError, match="no ledger"):
        record_frames(config, tmp_path / "out")


def semd(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "semd", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_a_changed_model_stops_the_daemon_with_one_line(tmp_path: Path) -> None:
    path = lab(tmp_path)
    (tmp_path / "models").mkdir()
    source = Path(__file__).parents[2] / "models"
    for file in source.iterdir():
        (tmp_path / "models" / file.name).write_bytes(file.read_bytes())
    with (tmp_path / "models" / "actor.safetensors").open("ab") as weights:
        weights.write(b"\0")
    path.write_text(path.read_text() + '[models]\ndirectory = "models"\n')
    done = semd("run", "--config", str(path))
    assert done.returncode == 2
    assert done.stderr.startswith("SEMD-M01: ")
    assert done.stderr.count("\n") == 1
    assert "actor.safetensors" in done.stderr
    verified = semd("model", "verify", "--directory", str(tmp_path / "models"), "--json")
    assert verified.returncode == 1
    answer = json.loads(verified.stdout.splitlines()[-1])
    assert answer["scorer"] == "ok"
    assert answer["actor"].startswith("SEMD-M01")


@pytest.mark.parametrize("command", ["run", "middle-client", "health"])
def test_a_wrong_configuration_is_one_line_and_status_2(tmp_path: Path, command: str) -> None:
    path = lab(tmp_path)
    path.write_text(path.read_text() + "[contrl]\n")
    done = semd(command, "--config", str(path))
    assert done.returncode == 2
    assert done.stderr == f"SEMD-C01: {path}: [contrl] is not known; did you mean 'control'?\n"


def test_health_of_nothing_is_not_healthy(tmp_path: Path) -> None:
    done = semd("health", "--config", str(lab(tmp_path)), "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout.splitlines()[-1])
    assert not report["healthy"]
    assert any("daemon has never run" in reason for reason in report["reasons"])


def test_the_middle_client_loads_neither_torch_nor_cv2(tmp_path: Path) -> None:
    # Another one holds the lock: this one ends with status 2 after everything was imported.
    path = lab(tmp_path)
    script = (
        "import sys\nfrom semd.cli import main\n"
        f"sys.argv = ['semd', 'middle-client', '--config', {str(path)!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 2\n"
        "assert 'semd.middle_client.link' in sys.modules\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'torchvision', 'cv2')))"
    )
    with InstanceLock(tmp_path / "state" / "middle-client.lock"):
        done = subprocess.run([sys.executable, "-c", script], check=False, timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_same_pair_saved_again_and_again_replays_to_the_same_actions(tmp_path: Path) -> None:
    """In layout `single` each is a frame of its own, with an id of its own."""
    path = lab(tmp_path, "single")
    config = load_config(path)
    write_session(tmp_path / "actions", 1)  # anywhere, to have the files
    pair = {path.suffix: path.read_bytes() for path in (tmp_path / "actions").iterdir()}
    for made in (tmp_path / "actions").iterdir():
        made.unlink()
    for count in (1, 2, 3):
        for suffix, data in pair.items():
            (config.watch.directory / f"ResponseImage{suffix}").write_bytes(data)
        answer_all(path, count)
    replay_frames(config.state.directory / "archive", config, tmp_path / "again", now=datetime(2030, 1, 1, tzinfo=UTC))
    assert unstamped(tmp_path / "again") == unstamped(config.actions.directory)
    assert len(unstamped(tmp_path / "again")) == 3
