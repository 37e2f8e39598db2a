"""A stand-in for the daemon and its client, to try the independent SEM without the package under test.

It knows the true focus, halves the distance to it with every action and speaks the `text` or `aisem` link.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import socket
import time
import zlib
from pathlib import Path

from independent_sem import VirtualSem
from isem_aisem import REPLY
from isem_protocol import AXES
from isem_writer import FrameRecord

MID_SCALE = 50.0


def stamp(moment: dt.datetime) -> str:
    """Return RFC 3339 UTC with milliseconds."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def compose(fields: dict[str, str]) -> bytes:
    """Return an action file's bytes: the fields in their order and the checksum."""
    body = "".join(f"{key}={value}\n" for key, value in fields.items()).encode()
    return body + f"CRC32={zlib.crc32(body):08x}\n".encode()


def fields_for(
    frame: FrameRecord,
    seq: int,
    status: str,
    targets: dict[str, float],
    *,
    stem: str | None = None,
    lifetime_s: float = 60.0,
) -> dict[str, str]:
    """Return the fields of an action that answers `frame` with `targets` (axis name to value)."""
    present = {
        "wd": frame.knobs.wd_mm,
        "brightness": frame.knobs.brightness,
        "contrast": frame.knobs.contrast,
    }
    decimals = {"wd": 4, "brightness": 3, "contrast": 3}
    keys = {key: axis for key, axis in AXES.items() if axis in targets}
    now = dt.datetime.now(dt.UTC)
    return {
        "SEMD-ACTION": "1",
        "ID": hashlib.md5(f"{frame.stem} {frame.image_sha} {frame.text_sha}".encode()).hexdigest(),
        "SEQ": str(seq),
        "FRAME": stem or frame.stem,
        "STATUS": status,
        "MAG": f"{frame.knobs.magnification:g}",
        **{key: f"{targets[axis]:.{decimals[axis]}f}" for key, axis in keys.items()},
        **{f"DELTA-{key}": f"{targets[axis] - present[axis]:+.6f}" for key, axis in keys.items()},
        "SCORE": "4.25",
        "REWARD": "" if seq == 1 else "-0.5",
        "STEP": str(seq - 1),
        "ISSUED": stamp(now),
        "EXPIRES": stamp(now + dt.timedelta(seconds=lifetime_s)),
    }


class StandIn:
    """Answers frames of one virtual SEM through files below `root` and over the SEM's link."""

    def __init__(self, sem: VirtualSem, root: Path) -> None:
        self.sem = sem
        self.actions_dir = root / "actions"
        self.state_dir = root / "state"
        for folder in (self.actions_dir / "sent", self.state_dir / "archive", self.state_dir / "quarantine"):
            folder.mkdir(parents=True, exist_ok=True)
        self.seq = 0

    def await_frame(self, number: int, timeout_s: float = 20.0) -> FrameRecord:
        """Return the frame with this 1-based number once it is completely written."""
        deadline = time.monotonic() + timeout_s
        while len(self.sem.frames) < number:
            if time.monotonic() > deadline:
                raise TimeoutError(f"frame {number} was not written; {self.sem.troubles}")
            time.sleep(0.005)
        return self.sem.frames[number - 1]

    def take(self, frame: FrameRecord) -> str:
        """Move the single pair to the archive; return the stem to answer."""
        if self.sem.layout == "series":
            return frame.stem
        stem = f"ResponseImage-{frame.number:06d}"
        for path in list(self.sem.watch_dir.glob("ResponseImage.*")):
            path.replace(self.state_dir / "archive" / f"{stem}{path.suffix}")
        return stem

    def act(self, frame: FrameRecord) -> tuple[Path, str]:
        """Write the action that answers `frame` and return its path and STATUS."""
        stem = self.take(frame)
        column = self.sem.column
        good = column.in_focus() and frame.exposed
        halfway = {
            "wd": frame.knobs.wd_mm if good else (frame.knobs.wd_mm + column.focus_mm) / 2,
            "brightness": frame.knobs.brightness if good else (frame.knobs.brightness + MID_SCALE) / 2,
            "contrast": frame.knobs.contrast if good else (frame.knobs.contrast + MID_SCALE) / 2,
        }
        status = "DONE" if good else "ADJUST"
        self.seq += 1
        targets = {axis: halfway[axis] for axis in self.sem.axes}
        fields = fields_for(frame, self.seq, status, targets, stem=stem)
        path = self.actions_dir / f"action-{self.seq:08d}-{fields['ID']}.txt"
        path.write_bytes(compose(fields))
        return path, status

    def run_text(self, max_frames: int) -> str:
        """Answer up to `max_frames` frames over one connection; return the last STATUS."""
        status = ""
        with socket.create_connection(("127.0.0.1", self.sem.server.port), timeout=10.0) as link:
            replies = link.makefile("r", encoding="utf-8")
            with replies:
                for number in range(1, max_frames + 1):
                    path, status = self.act(self.await_frame(number))
                    link.sendall(path.read_bytes() + b"\n")
                    if not replies.readline().startswith("ACK "):
                        raise RuntimeError(f"no ACK for {path.name}")
                    path.replace(path.parent / "sent" / path.name)
                    if status == "DONE":
                        break
        return status

    def run_aisem(self, max_frames: int) -> str:
        """Answer up to `max_frames` frames by WDMAG; return the last STATUS."""
        status = ""
        with socket.create_connection(("127.0.0.1", self.sem.server.port), timeout=10.0) as link:
            for part in (b"Connected.", b"COMM.START.", b"READY"):
                link.sendall(part)
                time.sleep(0.005)
            for number in range(1, max_frames + 1):
                frame = self.await_frame(number)
                path, status = self.act(frame)
                path.replace(path.parent / "sent" / path.name)
                if status == "DONE":
                    break
                wd_mm = (frame.knobs.wd_mm + self.sem.column.focus_mm) / 2
                link.sendall(f"WDMAG,{wd_mm:.4f},{frame.knobs.magnification:g}".encode())
                if link.recv(4096).decode("euc-kr") != REPLY:
                    raise RuntimeError("unexpected reply")
            link.sendall(b"FINISH")
        return status
