"""Decode an image file to the grey frame that the networks know."""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass

import numpy as np
import tifffile
from numpy.typing import NDArray

from semd.config import WatchConfig, default
from semd.errors import FrameError, ImageFormatError, ImageIncompleteError, ImageSizeError
from semd.inbox.image_bytes import MAX_PIXELS, Format, check_image_bytes, check_pixels, check_tail

# OpenCV reads its own limit once, when it is imported.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
import cv2

_MOST_CHANNELS = 4
_MOST_BYTES_PER_PIXEL = 2 * _MOST_CHANNELS
_MOST_PIECES = 1 << 15
# The scan's rows stay rows, whatever an orientation tag says.
_AS_WRITTEN = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION
_LUMINANCE_ONLY = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # R, G, B


@dataclass(frozen=True, slots=True)
class FrameSize:
    """Size of a frame, rows of info bar in the file, and the largest file read."""

    width_px: int = default(WatchConfig, "width_px")
    height_px: int = default(WatchConfig, "height_px")
    info_bar_px: int = default(WatchConfig, "info_bar_px")
    max_bytes: int = int(default(WatchConfig, "max_image_mb") * 1e6)


def decode_image(data: bytes, suffix: str, size: FrameSize | None = None) -> NDArray[np.uint8]:
    """Decode a whole image file to one grey channel without info bar.

    8- and 16-bit, palette and colour images are taken. 16 bits are mapped by the type's full range, or by the
    brightest value's power of two where a 12- or 14-bit camera left the upper bits unused. An image wider than
    the frame is scaled down by area. The rows of the info bar are cut off first; what then lies below the
    frame's proportions goes too, and where rows are short the sides are cut to keep the proportions.

    Args:
        data: the whole file.
        suffix: of its name, with the dot, lower case.
        size: of the frame; default 640x480.

    Returns:
        uint8, shape (height_px, width_px).

    Raises:
        ImageIncompleteError, ImageFormatError, ImageSizeError: see `check_image_bytes`; also when no decoder
            takes it or it is smaller than the frame.
    """
    return decode_scaled(data, suffix, size or FrameSize())[0]


def decode_scaled(data: bytes, suffix: str, size: FrameSize) -> tuple[NDArray[np.uint8], float]:
    """As `decode_image`; returns the frame and how many pixels of the file one of its pixels is wide."""
    kind = check_image_bytes(data, suffix, size.max_bytes)
    grey = _to_uint8(_decode_tiff(data) if kind is Format.TIFF else _decode(data, kind))
    return _crop(grey, size)


def _decode(data: bytes, kind: Format) -> NDArray[np.generic]:
    # A JPEG holds its luminance as it is; undoing the colours only to mix them again takes twice as long.
    flags = _LUMINANCE_ONLY if kind is Format.JPEG else _AS_WRITTEN
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageFormatError(f"the image cannot be decoded: {error.err}"[:300]) from error
    if picture is None:
        raise ImageFormatError("no decoder takes the image: damaged, or a variant of its format nobody reads")
    if picture.ndim == 3:
        # Three equal channels need no arithmetic; OpenCV's order is B, G, R.
        if picture.shape[2] >= 3:
            grey: NDArray[np.generic] = cv2.cvtColor(picture[:, :, :3], cv2.COLOR_BGR2GRAY)
            return grey
        return np.ascontiguousarray(picture[:, :, 0])
    return picture


def _check_page(page: tifffile.TiffPage, data: bytes) -> None:
    check_pixels(page.imagewidth, page.imagelength)
    if page.nbytes > _MOST_BYTES_PER_PIXEL * MAX_PIXELS:
        raise ImageSizeError(f"the TIFF claims {page.nbytes} bytes of pixels")
    if page.samplesperpixel > _MOST_CHANNELS:
        raise ImageFormatError(f"the TIFF claims {page.samplesperpixel} channels; at most {_MOST_CHANNELS} are read")
    # Each takes its time whatever is in it, and what is not listed counts too.
    n_pieces = math.prod(page.chunked)
    if n_pieces > _MOST_PIECES:
        raise ImageSizeError(f"the TIFF claims {n_pieces} strips or tiles; at most {_MOST_PIECES} are read")
    # A piece is unpacked as a whole, also where it reaches far beyond the picture.
    piece_bytes = math.prod(page.chunks) * -(-page.bitspersample // 8)
    if piece_bytes > _MOST_BYTES_PER_PIXEL * MAX_PIXELS:
        raise ImageSizeError(f"the TIFF claims strips or tiles of {piece_bytes} bytes")
    strips = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if not strips or any(start + count > len(data) for start, count in strips):
        raise ImageIncompleteError(f"the TIFF's pixels reach beyond its {len(data)} bytes")
    check_tail(data, min(start for start, _ in strips), max(start + count for start, count in strips))


def _decode_tiff(data: bytes) -> NDArray[np.generic]:
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            _check_page(page, data)
            return _one_channel(page)
    except FrameError:
        raise
    except Exception as error:  # whatever a lying header makes of the reader or of numpy
        raise ImageFormatError(f"the TIFF cannot be decoded: {type(error).__name__}: {error}"[:300]) from error


def _one_channel(page: tifffile.TiffPage) -> NDArray[np.generic]:
    picture: NDArray[np.generic] = page.asarray()
    if picture.dtype not in (np.uint8, np.uint16):
        raise ImageFormatError(f"pixels of type {picture.dtype}; 8 or 16 bits without sign are read")
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and picture.ndim == 3:
        picture = np.moveaxis(picture, 0, -1)
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
        ramp = np.asarray(page.colormap, np.uint16)
        # The standard's maps span 16 bits; some writers fill them with 8-bit values.
        ramp = ramp if ramp.max() > 255 else ramp * 257
        picture = ramp[:, picture].transpose(1, 2, 0)
    if picture.ndim == 3 and picture.shape[-1] in (3, 4):
        picture = (picture[..., :3].astype(np.float32) @ _LUMINANCE).round().astype(picture.dtype)
    elif picture.ndim == 3:
        picture = picture[..., 0]
    if picture.ndim != 2:
        raise ImageFormatError(f"the TIFF holds an array of shape {picture.shape}, not a picture")
    return _inverted(picture) if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE else picture


def _inverted(picture: NDArray[np.generic]) -> NDArray[np.generic]:
    if picture.dtype == np.uint8:
        return 255 - picture.astype(np.uint8)
    return 65535 - picture.astype(np.uint16)


def _to_uint8(picture: NDArray[np.generic]) -> NDArray[np.uint8]:
    if picture.dtype == np.uint8:
        return picture.astype(np.uint8, copy=False)
    if picture.dtype == np.uint16:
        wide = picture.astype(np.uint16, copy=False)
        bits = int(wide.max()).bit_length()
        return (wide >> ((bits if bits in (12, 14) else 16) - 8)).astype(np.uint8)
    raise ImageFormatError(f"pixels of type {picture.dtype}; 8 or 16 bits without sign are read")


def _crop(grey: NDArray[np.uint8], size: FrameSize) -> tuple[NDArray[np.uint8], float]:
    rows, columns = grey.shape
    height = min(rows - size.info_bar_px, size.height_px * columns // size.width_px)
    width = min(columns, size.width_px * height // size.height_px)
    if width < size.width_px or height < size.height_px:
        raise ImageSizeError(
            f"{columns} x {rows} pixels; a frame has {size.width_px} x {size.height_px} or more, "
            "with or without an info bar below ([watch] width_px, height_px, info_bar_px)"
        )
    left = (columns - width) // 2
    frame = np.ascontiguousarray(grey[:height, left : left + width])
    if (height, width) == (size.height_px, size.width_px):
        return frame, 1.0
    scaled = cv2.resize(frame, (size.width_px, size.height_px), interpolation=cv2.INTER_AREA).astype(np.uint8)
    return scaled, width / size.width_px
