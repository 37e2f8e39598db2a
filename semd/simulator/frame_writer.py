"""Frame writer of the virtual NanoStation: saves image and parameter text in each manner that the protocol allows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from semd.errors import StorageError
from semd.protocol.pairing import Layout


class Manner(StrEnum):
    """Manner in which a pair is written (protocol, section 1)."""

    IMAGE_FIRST = "image-first"
    TEXT_FIRST = "text-first"
    SLOW = "slow"
    PREALLOCATED = "preallocated"
    RENAME = "rename"


class ImageFormat(StrEnum):
    """Format of the image file."""

    JPG = "jpg"
    PNG = "png"
    BMP = "bmp"
    TIF = "tif"


def encode_image(image: NDArray[np.uint8], image_format: ImageFormat) -> bytes:
    """Encode a grey frame, uint8 (480, 640), as NanoStation does; a JPEG gets three equal channels.

    Raises:
        StorageError: the image cannot be encoded.
    """
    picture = np.repeat(image[:, :, None], 3, axis=2) if image_format is ImageFormat.JPG else image
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if image_format is ImageFormat.JPG else []
    done, encoded = cv2.imencode(f".{image_format}", picture, options)
    if not done:
        raise StorageError(f"the frame could not be encoded as {image_format}")
    return encoded.tobytes()


@dataclass(slots=True)
class FrameWriter:
    """Writer of pairs into the watch directory.

    Attributes:
        directory: the watch directory.
        layout: `series` numbers the stems; `single` writes the same stem again once the previous pair is gone.
        manner: manner of writing.
        image_format: format of the image.
        encoding: encoding of the parameter text.
        pause_s: pause between the two files, and between the pieces of a slow writer.
        sleep: pauses for a number of seconds.
        stopped: returns True to end the wait for the previous pair to be taken.
    """

    directory: Path
    layout: Layout = Layout.SERIES
    manner: Manner = Manner.IMAGE_FIRST
    image_format: ImageFormat = ImageFormat.JPG
    encoding: str = "utf-8"
    pause_s: float = 0.0
    sleep: Callable[[float], None] = time.sleep
    stopped: Callable[[], bool] = lambda: False

    def write(self, number: int, image: NDArray[np.uint8], parameter_text: str) -> str | None:
        """Write one pair; returns its stem, or None if stopped before the previous pair was taken."""
        stem = "ResponseImage" if self.layout is Layout.SINGLE else f"frame-{number:06d}"
        files = [
            (self.directory / f"{stem}.{self.image_format}", encode_image(image, self.image_format)),
            (self.directory / f"{stem}.txt", parameter_text.encode(self.encoding)),
        ]
        while self.layout is Layout.SINGLE and any(path.exists() for path, _ in files):
            if self.stopped():
                return None
            self.sleep(0.005)
        if self.manner is Manner.TEXT_FIRST:
            files.reverse()
        for index, (path, data) in enumerate(files):
            if index and self.pause_s:
                self.sleep(self.pause_s)
            self._write_file(path, data)
        return stem

    def _write_file(self, path: Path, data: bytes) -> None:
        if self.manner is Manner.RENAME:
            temporary = path.with_name(f"~{path.name}.tmp")
            temporary.write_bytes(data)
            temporary.replace(path)
        elif self.manner is Manner.SLOW:
            with path.open("wb", buffering=0) as file:
                for piece in _pieces(data, 5):
                    file.write(piece)
                    self.sleep(self.pause_s)
        elif self.manner is Manner.PREALLOCATED:
            with path.open("wb", buffering=0) as file:
                file.write(bytes(len(data)))
                file.seek(0)
                for piece in _pieces(data, 3):
                    self.sleep(self.pause_s)
                    file.write(piece)
        else:
            path.write_bytes(data)


def _pieces(data: bytes, count: int) -> Iterator[bytes]:
    size = -(-len(data) // count)
    return (data[start : start + size] for start in range(0, len(data), size))
