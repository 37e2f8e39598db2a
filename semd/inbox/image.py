"""Decode an image file to the grey frame that the networks know."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass

import numpy as np
import tifffile
from numpy.typing import NDArray

from semd.errors import FrameError, ImageFormatError, ImageIncompleteError, ImageSizeError
from semd.inbox.image_bytes import MAX_PIXELS, Format, check_image_bytes, check_pixels, check_tail

# OpenCV reads its own limit once, when it is imported.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
import cv2

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # R, G, B


@dataclass(frozen=True, slots=True)
class FrameSize:
    """Size of a frame, rows of info bar in the file, and the largest file read."""

    width_px: int = 640
    height_px: int = 480
    info_bar_px: int = 0
    max_bytes: int = 64 * 1024 * 1024


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
    size = size or FrameSize()
    kind = check_image_bytes(data, suffix, size.max_bytes)
    grey = _to_uint8(_decode_tiff(data) if kind is Format.TIFF else _decode(data))
    return _crop(grey, size)


def _decode(data: bytes) -> NDArray[np.generic]:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
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
    strips = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if not strips or any(start + count > len(data) for start, count in strips):
        raise ImageIncompleteError(f"the TIFF's pixels reach beyond its {len(data)} bytes")
    check_tail(data, min(start for start, _ in strips), max(start + count for start, count in strips))


def _decode_tiff(data: bytes) -> NDArray[np.generic]:
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            _check_page(page, data)
            picture: NDArray[np.generic] = page.asarray()
            colours = page.colormap if page.photometric == tifffile.PHOTOMETRIC.PALETTE else None
            inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    except FrameError:
        raise
    except Exception as error:
        raise ImageFormatError(f"the TIFF cannot be decoded: {type(error).__name__}: {error}"[:300]) from error
    if colours is not None:
        picture = np.asarray(colours, np.uint16)[:, picture].transpose(1, 2, 0)
    if picture.ndim == 3 and picture.shape[-1] in (3, 4):
        picture = (picture[..., :3].astype(np.float32) @ _LUMINANCE).round().astype(picture.dtype)
    elif picture.ndim == 3:
        picture = picture[..., 0]
    if picture.ndim != 2:
        raise ImageFormatError(f"the TIFF holds an array of shape {picture.shape}, not a picture")
    return _inverted(picture) if inverted else picture


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


def _crop(grey: NDArray[np.uint8], size: FrameSize) -> NDArray[np.uint8]:
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
        return frame
    return cv2.resize(frame, (size.width_px, size.height_px), interpolation=cv2.INTER_AREA).astype(np.uint8)
