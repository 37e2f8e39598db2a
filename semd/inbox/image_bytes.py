"""Check of an image file's bytes before any decoder reads them: whole, of the named format, of a sane size.

Decoders lie: files whose tail was never written decode "successfully" in OpenCV. So the end of each format is
looked for, and the size it claims is checked before memory is spent on it.
"""

from __future__ import annotations

import struct
import zlib
from enum import StrEnum

from semd.errors import ImageFormatError, ImageIncompleteError, ImageSizeError

MAX_PIXELS = 64 * 1024 * 1024
_PNG_END = b"IEND\xaeB`\x82"
_SOF_MARKERS = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_LEAST_BLANK_TAIL = 2048
_JPEG_HOLE = bytes(512)
_BLACK_SHARE = 0.5
_HEADER_SLACK = 4  # a colour map may end in zeros of its own


class Format(StrEnum):
    """An image file format."""

    JPEG = "jpeg"
    PNG = "png"
    BMP = "bmp"
    TIFF = "tiff"


_OF_SUFFIX = {
    ".jpg": Format.JPEG, ".jpeg": Format.JPEG, ".png": Format.PNG,
    ".bmp": Format.BMP, ".tif": Format.TIFF, ".tiff": Format.TIFF,
}  # fmt: skip
_MAGIC = {
    Format.JPEG: (b"\xff\xd8\xff",),
    Format.PNG: (b"\x89PNG\r\n\x1a\n",),
    Format.BMP: (b"BM",),
    Format.TIFF: (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}


def check_image_bytes(data: bytes, suffix: str, max_bytes: int) -> Format:
    """Check that an image file is whole, is what its suffix says and claims a sane size.

    Args:
        data: the whole file.
        suffix: of its name, with the dot, lower case.
        max_bytes: larger files are refused.

    Raises:
        ImageIncompleteError: empty, cut short, or a tail that was never written.
        ImageFormatError: another format than the suffix says, or none at all.
        ImageSizeError: too many bytes or pixels.
    """
    if len(data) > max_bytes:
        raise ImageSizeError(f"{len(data)} bytes; at most {max_bytes} are read ([watch] max_image_mb)")
    if not data.strip(b"\0"):
        raise ImageIncompleteError(f"{len(data)} bytes and all of them zero: nothing was written yet")
    claimed = _OF_SUFFIX[suffix]
    actual = next((kind for kind, magics in _MAGIC.items() if data.startswith(magics)), None)
    if actual is None:
        if any(magic.startswith(data[: len(magic)]) for magic in _MAGIC[claimed]):
            raise ImageIncompleteError(f"only {len(data)} bytes")
        if not data[:8].strip(b"\0"):
            raise ImageIncompleteError("the file begins with zeros: its header was not written yet")
        raise ImageFormatError(f"the file is named {suffix} but begins with {data[:8].hex(' ')}")
    if actual is not claimed:
        raise ImageFormatError(f"the file is named {suffix} but is a {actual.upper()}")
    checks = {Format.JPEG: _check_jpeg, Format.PNG: _check_png, Format.BMP: _check_bmp}
    if actual in checks:  # a TIFF's pixels can lie anywhere: its reader looks at them
        checks[actual](data)
    return actual


def check_pixels(width: int, height: int) -> None:
    """Refuse a decompression bomb by the size it claims.

    Raises:
        ImageSizeError: too many pixels, or none.
    """
    if width < 1 or height < 1:
        raise ImageFormatError(f"the file claims {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise ImageSizeError(f"the file claims {width} x {height} pixels; at most {MAX_PIXELS} are decoded")


def _check_jpeg(data: bytes) -> None:
    """Walk the segments to the scan, then demand the end marker; a few bytes of padding after it are common."""
    place = 2
    while True:
        if place + 4 > len(data):
            raise ImageIncompleteError("the JPEG ends within its headers")
        if not data[place:].strip(b"\0"):
            raise ImageIncompleteError(f"the JPEG is zero from byte {place} on: never written")
        if data[place] != 0xFF:
            raise ImageFormatError(f"the JPEG has no marker at byte {place}")
        marker = data[place + 1]
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        if marker in _SOF_MARKERS and place + 9 <= len(data):
            height, width = struct.unpack(">HH", data[place + 5 : place + 9])
            check_pixels(width, height)
        place += 2 + length
        if marker == 0xDA:
            break
    if b"\xff\xd9" not in data[-16:] or data.rstrip(b"\0")[-2:] != b"\xff\xd9":
        raise ImageIncompleteError("the JPEG has no end marker at its end")
    # Blocks of a pre-allocated file may come in any order. Coded pixels hold no such run: even a constant
    # picture's end-of-block codes have ones in them.
    hole = data.find(_JPEG_HOLE, place)
    if hole >= 0:
        raise ImageIncompleteError(f"the JPEG is zero at byte {hole}, within its pixels: never written")


def _check_png(data: bytes) -> None:
    """Walk the chunks; each carries its own checksum, and IEND ends the file."""
    place = 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        kind = data[place + 4 : place + 8]
        end = place + 12 + length
        if end > len(data):
            break
        if kind == b"IHDR" and length >= 8:
            check_pixels(*struct.unpack(">II", data[place + 8 : place + 16]))
        if zlib.crc32(data[place + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ImageIncompleteError(f"the PNG chunk at byte {place} does not match its checksum")
        if kind == b"IEND":
            return
        place = end
    raise ImageIncompleteError("the PNG ends before its end chunk")


def _check_bmp(data: bytes) -> None:
    if len(data) < 54:
        raise ImageIncompleteError(f"the BMP has {len(data)} bytes, not even its headers")
    size, offset = struct.unpack("<I4xI", data[2:14])
    width, height, bits = struct.unpack("<ii2xH", data[18:30])
    check_pixels(abs(width), abs(height))
    needed = offset + (abs(width) * bits + 31) // 32 * 4 * abs(height)
    if len(data) < max(needed if bits in (8, 24, 32) else 0, size):
        raise ImageIncompleteError(f"the BMP has {len(data)} bytes; its header asks for {max(needed, size)}")
    filled = len(data.rstrip(b"\0"))
    if filled < offset - _HEADER_SLACK:
        raise ImageIncompleteError(f"the BMP is zero from byte {filled} on, within its header: never written")
    check_tail(data, offset, len(data))


def check_tail(data: bytes, start: int, end: int) -> None:
    """Refuse a pre-allocated file, which is zero where its writer has not been; an all-black image is not zero there.

    Nor is one that is black for the most part, as an underexposed frame is: its zeros are no evidence. That
    it is not written to its end shows in that the file still changes.

    Args:
        data: the whole file.
        start: first byte of the pixels.
        end: first byte behind them.

    Raises:
        ImageIncompleteError: the last of the pixels were never written.
    """
    filled = len(data[:end].rstrip(b"\0"))
    if filled > start and end - filled >= max(_LEAST_BLANK_TAIL, (end - start) // 100):
        # Both bytes of 16-bit pixels must be zero: 8-bit values in the upper byte leave every lower one zero.
        black = 2 * min(data[start:filled:2].count(0), data[start + 1 : filled : 2].count(0))
        if black >= _BLACK_SHARE * (filled - start):
            return
        raise ImageIncompleteError(f"the last {end - filled} of {end} bytes are zero: never written")
