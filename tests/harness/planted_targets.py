"""Readers that do on purpose what none may do, for the campaign to find."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from semd.campaigns.fuzz.targets import BrokenPromiseError, Reader, Target
from semd.errors import ImageFormatError


def _when(first: bytes, deed: Reader) -> Reader:
    """Behave, but for inputs that begin like this."""

    def read(data: bytes) -> None:
        if data.startswith(first):
            deed(data)

    return read


def _escape(_: bytes) -> None:
    raise KeyError("nobody catches this")


def _lie(_: bytes) -> None:
    raise BrokenPromiseError("not finite")


def _die(_: bytes) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _hang(_: bytes) -> None:
    time.sleep(3600)


def _burn(_: bytes) -> None:
    end_s = time.process_time() + 0.3
    while time.process_time() < end_s:
        pass


def _gorge(_: bytes) -> None:
    bytes(1 << 33)


def _gorge_quietly(_: bytes) -> None:
    """As a reader does that takes every error for a damaged file."""
    try:
        bytes(1 << 33)
    except MemoryError as error:
        raise ImageFormatError("damaged") from error


def _refuse(_: bytes) -> None:
    raise ImageFormatError("as it may")


DEEDS = {
    "escapes": _escape, "lies": _lie, "dies": _die, "hangs": _hang, "burns": _burn, "gorges": _gorge,
    "gorges-quietly": _gorge_quietly, "refuses": _refuse,
}  # fmt: skip


def _target(name: str, deed: Reader) -> Target:
    def open_(_: Path) -> Reader:
        return _when(b"bad", deed)

    return Target(name, 1, True, open_, corpus="seeds")


TARGETS = tuple(_target(name, deed) for name, deed in DEEDS.items())
