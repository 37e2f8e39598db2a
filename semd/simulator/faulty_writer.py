"""Frame writer with injected faults, which a reader of the watch directory must tolerate."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from semd.protocol.pairing import Layout
from semd.simulator.fault_plan import FaultPlan
from semd.simulator.frame_writer import FrameWriter, encode_image


class WriterFault(StrEnum):
    """Fault of one pair."""

    GROWING = "growing"
    REPLACED = "replaced"
    SWAPPED = "swapped"
    DUPLICATE = "duplicate"
    RENAMED_INTO = "renamed-into"
    HARD_LINKED = "hard-linked"
    DENIED = "denied"
    TIME_BACK = "time-back"
    FOLDER = "folder"
    EMPTY_FIRST = "empty-first"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    IMAGE_ALONE = "image-alone"
    TEXT_ALONE = "text-alone"


End = Literal["answered", "held", "quarantined"]

EXPECTED_ENDS: Final[Mapping[WriterFault, End]] = {
    **dict.fromkeys(WriterFault, "answered"),
    WriterFault.EMPTY: "held",
    WriterFault.TRUNCATED: "held",
    WriterFault.IMAGE_ALONE: "quarantined",
    WriterFault.TEXT_ALONE: "quarantined",
}
"""Required outcome of each fault: an action, HOLD and quarantine, or quarantine alone (protocol, section 2)."""

ANSWERED_FAULTS: Final = tuple(fault for fault in WriterFault if EXPECTED_ENDS[fault] != "quarantined")
"""Faults that the daemon answers, so that the SEM scans again."""

_LONG_AGO_NS = 10**9 * 3600 * 24 * 365


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    data: bytes


@dataclass(slots=True)
class FaultyWriter(FrameWriter):
    """Frame writer that saves pairs with the faults of a plan.

    Attributes:
        plan: schedule of faults; one event for each pair.
        ends: required outcome of each pair written so far, by its number.
        rest_s: time that an incomplete pair stays incomplete, in s.
    """

    plan: FaultPlan[WriterFault] = field(default_factory=FaultPlan)
    ends: dict[int, End] = field(default_factory=dict)
    rest_s: float = 0.1

    def write(self, number: int, image: NDArray[np.uint8], parameter_text: str) -> str | None:
        """Write one pair; see `FrameWriter`."""
        fault = self.plan.next()
        if fault is None:
            stem = FrameWriter.write(self, number, image, parameter_text)
            if stem is not None:
                self.ends[number] = "answered"
            return stem
        stem = "ResponseImage" if self.layout is Layout.SINGLE else f"frame-{number:06d}"
        picture = _File(self.directory / f"{stem}.{self.image_format}", encode_image(image, self.image_format))
        text = _File(self.directory / f"{stem}.txt", parameter_text.encode(self.encoding))
        while self.layout is Layout.SINGLE and any(os.path.lexists(file.path) for file in (picture, text)):
            if self.stopped():
                return None
            self.sleep(0.005)
        _FAULT_METHODS[fault](self, picture, text)
        self.ends[number] = EXPECTED_ENDS[fault]
        return stem

    def _grow(self, picture: _File, text: _File) -> None:
        for file in (picture, text):
            with file.path.open("wb", buffering=0) as out:
                step = -(-len(file.data) // 8)
                for start in range(0, len(file.data), step):
                    out.write(file.data[start : start + step])
                    self.sleep(self.rest_s / 8)

    def _replace(self, picture: _File, text: _File) -> None:
        """Write and close half of each file, then overwrite both in full."""
        for file in (picture, text):
            file.path.write_bytes(file.data[: len(file.data) // 2])
        self.sleep(self.rest_s)
        _save(picture, text)

    def _swap(self, picture: _File, text: _File) -> None:
        _save(text)
        self.sleep(self.rest_s)
        _save(picture)

    def _write_twice(self, picture: _File, text: _File) -> None:
        """Write the pair twice; once in layout `single`, where a second copy could count as another frame."""
        _save(picture, text)
        if self.layout is Layout.SERIES:
            self.sleep(self.rest_s)
            _save(picture, text)

    def _rename_into(self, picture: _File, text: _File) -> None:
        for file in (text, picture):
            hidden = file.path.with_name(f".{file.path.name}.part")
            hidden.write_bytes(file.data)
            hidden.replace(file.path)

    def _link_into(self, picture: _File, text: _File) -> None:
        for file in (picture, text):
            hidden = file.path.with_name(f".{file.path.name}.part")
            hidden.write_bytes(file.data)
            os.link(hidden, file.path)
            hidden.unlink()

    def _deny(self, picture: _File, text: _File) -> None:
        for file in (picture, text):
            handle = os.open(file.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o200)
            with os.fdopen(handle, "wb") as out:
                out.write(file.data)
        self.sleep(self.rest_s)
        for file in (picture, text):
            with suppress(FileNotFoundError):  # a reader with full rights may have taken it already
                file.path.chmod(0o644)

    def _set_old_times(self, picture: _File, text: _File) -> None:
        """Set modification times a year back, as a copy does that keeps times of another computer's clock."""
        for age, file in enumerate((picture, text)):
            hidden = file.path.with_name(f".{file.path.name}.part")
            hidden.write_bytes(file.data)
            os.utime(hidden, ns=(_LONG_AGO_NS, _LONG_AGO_NS - age))
            hidden.replace(file.path)

    def _write_folder_first(self, picture: _File, text: _File) -> None:
        picture.path.mkdir()
        _save(text)
        self.sleep(self.rest_s)
        picture.path.rmdir()
        _save(picture)

    def _begin_empty(self, picture: _File, text: _File) -> None:
        for file in (picture, text):
            file.path.write_bytes(b"")
        self.sleep(self.rest_s)
        _save(picture, text)

    def _leave_empty(self, picture: _File, text: _File) -> None:
        picture.path.write_bytes(b"")
        _save(text)

    def _truncate(self, picture: _File, text: _File) -> None:
        picture.path.write_bytes(picture.data[: len(picture.data) * 2 // 3])
        _save(text)

    def _leave_image_alone(self, picture: _File, _text: _File) -> None:
        _save(picture)

    def _leave_text_alone(self, _picture: _File, text: _File) -> None:
        _save(text)


def _save(*files: _File) -> None:
    for file in files:
        file.path.write_bytes(file.data)


_FAULT_METHODS: Final[Mapping[WriterFault, Callable[[FaultyWriter, _File, _File], None]]] = {
    WriterFault.GROWING: FaultyWriter._grow,
    WriterFault.REPLACED: FaultyWriter._replace,
    WriterFault.SWAPPED: FaultyWriter._swap,
    WriterFault.DUPLICATE: FaultyWriter._write_twice,
    WriterFault.RENAMED_INTO: FaultyWriter._rename_into,
    WriterFault.HARD_LINKED: FaultyWriter._link_into,
    WriterFault.DENIED: FaultyWriter._deny,
    WriterFault.TIME_BACK: FaultyWriter._set_old_times,
    WriterFault.FOLDER: FaultyWriter._write_folder_first,
    WriterFault.EMPTY_FIRST: FaultyWriter._begin_empty,
    WriterFault.EMPTY: FaultyWriter._leave_empty,
    WriterFault.TRUNCATED: FaultyWriter._truncate,
    WriterFault.IMAGE_ALONE: FaultyWriter._leave_image_alone,
    WriterFault.TEXT_ALONE: FaultyWriter._leave_text_alone,
}
