"""Fuzz targets: every reader of bytes from outside, with the promise that it makes.

A reader may give a result that keeps its promise, or raise one of our errors. Anything else is a finding.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from semd.config import load_config
from semd.config.instrument_file import read_profile
from semd.decision.rules import DEFAULT_LIMITS
from semd.domain.axes import AXES
from semd.errors import ActionTextError, ConfigError
from semd.inbox.dialects import read_parameters
from semd.inbox.image import FrameSize, decode_scaled
from semd.middle_client.audit_reading import read_trail
from semd.middle_client.framing import MAX_LINE_BYTES, SemReplyReader, aisem_reply
from semd.middle_client.journal import Journal
from semd.model_store import MANIFEST, read_manifest
from semd.outbox.ledger import Ledger
from semd.protocol.action import decode_action, encode_action, parse_file_name
from semd.protocol.pairing import Dialect
from semd.protocol.parameter_text import check_parameters

Reader = Callable[[bytes], None]
"""Reads one input; raises a `SemdError`, or `BrokenPromiseError`, or nothing."""

_SIZE = FrameSize(80, 60)
_NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
_ASCII, _UNDEFINED = 2, 7
"""Types of TIFF tags."""
_ZEISS_TAG, _FEI_TAG, _TESCAN_TAG = 34118, 34682, 50431


class BrokenPromiseError(Exception):
    """A reader returned a result that breaks its promise."""


@dataclass(frozen=True, slots=True)
class Target:
    """One reader.

    Attributes:
        name: name of the target, and of its folder in the corpus unless `corpus` names another.
        share: weight in the distribution of the inputs.
        is_text: True to mutate lines and numbers as well as bytes.
        open: makes the reader, given a working folder for readers of files.
        finish: final step of an input, which mends a checksum or wraps the input into a file.
        corpus: name of the folder in the corpus, if not `name`.
    """

    name: str
    share: int
    is_text: bool
    open: Callable[[Path], Reader]
    finish: Callable[[bytes], bytes] = bytes
    corpus: str = ""

    @property
    def folder(self) -> str:
        """Name of the target's folder in the corpus."""
        return self.corpus or self.name


def read_corpus(directory: Path, target: Target) -> list[bytes]:
    """Read the files of a target's folder, in the order of their names.

    Raises:
        ConfigError: the folder has no files.
    """
    folder = directory / target.folder
    try:
        files = [path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()]
    except OSError as error:
        raise ConfigError(f"{folder}: no corpus there ({error.strerror}): name it with --corpus") from error
    files = [data for data in files if data]
    if not files:
        raise ConfigError(f"{folder}: no corpus there; it lies in tests/fuzz/corpus of the sources")
    return files


def _promise(kept: bool, what: str) -> None:
    if not kept:
        raise BrokenPromiseError(what)


def _parameters(dialect: Dialect, *, in_image: bool = False) -> Callable[[Path], Reader]:
    def read(data: bytes) -> None:
        found = read_parameters(dialect, b"" if in_image else data, data if in_image else b"")
        numbers = [found.magnification, found.wd_mm, *(found.value(axis) for axis in AXES), found.hv_kv, found.pixel_nm]
        numbers += found.stage_mm or ()
        _promise(all(value is None or math.isfinite(value) for value in numbers), f"{found} has what is not finite")
        check_parameters(found, AXES, DEFAULT_LIMITS)

    return lambda _: read


def _tagged(number: int, kind: int) -> Callable[[bytes], bytes]:
    """Wrap text into a TIFF of one pixel that carries it in a tag."""

    def wrap(text: bytes) -> bytes:
        value = text.replace(b"\0", b" ") + b"\0" if kind == _ASCII else text
        value = value.ljust(5, b"\0")  # up to four bytes would lie in the entry itself
        short = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 0), (277, 1), (278, 1), (279, 1)]
        start = 8 + 2 + 12 * (len(short) + 1) + 4
        entries = [struct.pack("<HHII", tag, 4, 1, start if tag == 273 else found) for tag, found in short]
        entries.append(struct.pack("<HHII", number, kind, len(value), start + 2))
        head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
        return head + b"".join(entries) + bytes(4) + b"\x80\0" + value

    return wrap


def _image(suffix: str) -> Callable[[Path], Reader]:
    def read(data: bytes) -> None:
        frame, scale = decode_scaled(data, suffix, _SIZE)
        _promise((frame.shape, frame.dtype) == ((60, 80), np.dtype(np.uint8)), f"{frame.shape} of {frame.dtype}")
        _promise(math.isfinite(scale) and scale > 0.0, f"scale {scale}")

    return lambda _: read


def _action(data: bytes) -> None:
    parse_file_name(data[:200].decode("utf-8", "surrogateescape"))
    action = decode_action(data)
    try:
        again = decode_action(encode_action(action))
    except ActionTextError as error:
        # A value that was read may be too long or not printable, and is then refused when written.
        _promise("bytes; at most" in error.message or "cannot" in error.message, str(error))
        return
    _promise((again.id, again.seq, again.frame) == (action.id, action.seq, action.frame), "it does not survive a trip")
    _promise(parse_file_name(action.file_name) == (action.seq, action.id), "its name is not its own")


def _with_crc(data: bytes) -> bytes:
    """Mend the checksum of three inputs in four, so that the code behind the check is reached."""
    head, mark, _ = data.rpartition(b"CRC32=")
    if not mark or zlib.adler32(data) % 4 == 0:
        return data
    return head + b"CRC32=%08x\n" % zlib.crc32(head)


def _with_chunk_crcs(data: bytes) -> bytes:
    """Mend the checksums of the PNG chunks of three inputs in four."""
    if zlib.adler32(data) % 4 == 0:
        return data
    mended, place = bytearray(data), 8
    while place + 12 <= len(mended):
        end = place + 8 + int.from_bytes(mended[place : place + 4], "big")
        if end + 4 > len(mended):
            break
        mended[end : end + 4] = zlib.crc32(mended[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(mended)


def _wire(data: bytes) -> None:
    """Read answers of both dialects; for the text dialect, in slices whose sizes follow from the bytes."""
    aisem_reply(data)
    reader, place = SemReplyReader(), 0
    whole: list[object] = []
    while place < len(data):
        count = 1 + data[place] % 37
        whole += reader.feed(data[place : place + count])
        place += count
    held = sum(len(part) for part in vars(reader).values() if isinstance(part, bytes))
    _promise(held <= MAX_LINE_BYTES, f"it holds {held} bytes")
    _promise(len(whole) <= data.count(b"\n"), "more answers than lines")


def _file(name: str, read: Callable[[Path], object]) -> Callable[[Path], Reader]:
    """Make a reader of files: each input is written to the working folder first."""

    def open_(scratch: Path) -> Reader:
        path = scratch / name

        def run(data: bytes) -> None:
            path.write_bytes(data)
            read(path)

        return run

    return open_


def _ledger(scratch: Path) -> Reader:
    from semd.daemon.records import rebuild_run  # noqa: PLC0415 - brings torch, which no other target waits for

    def read(path: Path) -> None:
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        with Ledger(path, now=lambda: _NOON) as ledger:
            ledger.counts()
            ledger.size()
            ledger.answered()
            ledger.answers()
            ledger.unfinished()
            ledger.ended_rows(0, 100)
            rebuild_run(ledger.current_run())

    return _file("ledger.sqlite", read)(scratch)


def _records(_: Path) -> Reader:
    """Read two columns of the ledger: an observation and a decision, separated by a form feed."""
    from semd.daemon.records import (  # noqa: PLC0415 - as above
        decision_from_json,
        observation_from_json,
        rebuild_run,
    )

    def read(data: bytes) -> None:
        observation, _, decision = data.partition(b"\f")
        rebuild_run([(_as_text(observation), _as_text(decision))])
        observation_from_json(observation)
        decision_from_json(decision)

    return read


def _as_text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _trail(path: Path) -> None:
    report = read_trail(path.parent, last=5)
    _promise(len(report.commands) <= 5, f"{len(report.commands)} commands")


_STAYS = re.compile(rb"/(dev|proc|sys)\b")


def _confined(data: bytes) -> bytes:
    """Replace paths to devices in an input."""
    return _STAYS.sub(b"/nowhere", data)


TARGETS: Sequence[Target] = (
    Target("coxem", 16, True, _parameters(Dialect.COXEM)),
    Target("hitachi", 10, True, _parameters(Dialect.HITACHI)),
    Target("jeol", 10, True, _parameters(Dialect.JEOL)),
    Target("tescan", 10, True, _parameters(Dialect.TESCAN)),
    Target("tescan-tag", 2, True, _parameters(Dialect.TESCAN, in_image=True), _tagged(_TESCAN_TAG, _UNDEFINED)),
    Target("zeiss", 4, True, _parameters(Dialect.ZEISS, in_image=True), _tagged(_ZEISS_TAG, _ASCII)),
    Target("fei", 4, True, _parameters(Dialect.FEI, in_image=True), _tagged(_FEI_TAG, _ASCII)),
    Target("fei-tags", 1, False, _parameters(Dialect.FEI, in_image=True), corpus="image-tif"),
    Target("zeiss-tags", 1, False, _parameters(Dialect.ZEISS, in_image=True), corpus="image-tif"),
    Target("action", 12, True, lambda _: _action, _with_crc),
    Target("wire", 12, True, lambda _: _wire),
    Target("config", 4, True, _file("semd.toml", load_config), _confined),
    Target("profile", 3, True, _file("profile.toml", read_profile)),
    Target("manifest", 1, True, _file(MANIFEST, lambda path: read_manifest(path.parent))),
    Target("journal", 2, True, _file("middle-client.json", lambda path: Journal(path).load())),
    Target("audit", 2, True, _file("commands-2026-01.jsonl", _trail)),
    Target("records", 3, True, _records),
    Target("ledger", 1, False, _ledger),
    Target("image-jpg", 2, False, _image(".jpg")),
    Target("image-png", 2, False, _image(".png"), _with_chunk_crcs),
    Target("image-bmp", 2, False, _image(".bmp")),
    Target("image-tif", 2, False, _image(".tif")),
)
