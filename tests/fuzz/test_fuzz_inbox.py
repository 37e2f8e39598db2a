"""Damaged files at random: whatever is in them, the answer is a frame or an error of ours."""

from __future__ import annotations

import io
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import tifffile

from semd.domain.pairing import Dialect
from semd.errors import FrameError
from semd.inbox.dialects import read_parameters
from semd.inbox.image import FrameSize, decode_image

SIZE = FrameSize(80, 60)
GREY = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (60, 80), dtype=np.uint8), (0, 0), 2)
FEI = b"[Beam]\r\nHV=5000\r\nBeam=EBeam\r\n[EBeam]\r\nWD=0.0041\r\n[Scan]\r\nPixelWidth=3e-8\r\nHorFieldsize=2e-5\r\n"
ZEISS = b"\r\n1\r\nAP_WD\r\nWD = 5.1 mm\r\nAP_MAG\r\nMag = 1.50 K X\r\nAP_BRIGHTNESS\r\nBrightness = 51 %\r\n"
COXEM = b"MAG=2 K X\r\nWD=9500 um\r\nBRIGHTNESS=40 %\r\nCONTRAST=50\r\nHV=15 kV\r\nSTAGE=1,2\r\nPIXEL=99\r\n"


def tiff(picture: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, picture, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


IMAGES = {
    "jpeg": (".jpg", cv2.imencode(".jpg", GREY)[1].tobytes()),
    "png": (".png", cv2.imencode(".png", GREY)[1].tobytes()),
    "bmp": (".bmp", cv2.imencode(".bmp", GREY)[1].tobytes()),
    "bmp in colour": (".bmp", cv2.imencode(".bmp", cv2.merge([GREY] * 3))[1].tobytes()),
    "tiff": (".tif", tiff(GREY)),
    "tiff of 16 bits": (".tif", tiff(GREY.astype(np.uint16) * 200)),
    "tiff of floats": (".tif", tiff(GREY.astype(np.float32))),
    "tiff, lzw": (".tif", tiff(GREY, compression="lzw")),
    "tiff in colour": (".tif", tiff(np.dstack([GREY] * 3), photometric="rgb")),
    "tiff, palette": (".tif", tiff(GREY, photometric="palette", colormap=np.zeros((3, 256), np.uint16))),
    "tiff in tiles": (".tif", tiff(GREY, tile=(16, 16), compression="deflate")),
}


def damaged(data: bytes, rng: np.random.Generator, times: int) -> Iterator[bytes]:
    for _ in range(times):
        found = bytearray(data)
        for _ in range(rng.integers(1, 6)):
            # Most damage to the headers: that is where the lies are.
            place = int(rng.integers(min(len(found), 400) if rng.random() < 0.7 else len(found)))
            match rng.integers(5):
                case 0:
                    found[place] ^= 1 << int(rng.integers(8))
                case 1:
                    found[place : place + 4] = rng.bytes(4)
                case 2:
                    found[place : place + 2] = b"\xff\xff"
                case 3:
                    del found[place : place + int(rng.integers(1, 20))]
                case _:
                    found[place:place] = rng.bytes(int(rng.integers(1, 8)))
            found = found or bytearray(b"x")
        yield bytes(found)


@pytest.mark.parametrize("kind", IMAGES)
def test_damaged_images(kind: str) -> None:
    suffix, data = IMAGES[kind]
    for case in damaged(data, np.random.default_rng(len(kind)), 250):
        try:
            frame = decode_image(case, suffix, SIZE)
        except FrameError:
            continue
        assert (frame.shape, frame.dtype) == ((60, 80), np.uint8)


@pytest.mark.parametrize(
    ("dialect", "text", "tag"),
    [
        (Dialect.COXEM, COXEM, None),
        (Dialect.HITACHI, b"[SemImageFile]\r\nMagnification=1200\r\nWorkingDistance=7920.5 um\r\n", None),
        (Dialect.JEOL, b"$CM_MAG 50\r\n$$SM_WD 9.07\r\n$CM_ACCEL_VOLT 5.00\r\n", None),
        (Dialect.TESCAN, b"[MAIN]\r\nMagnification=2000\r\n[SEM]\r\nHV=20000\r\nWD=13.250e-3\r\n", None),
        (Dialect.FEI, FEI, 34682),
        (Dialect.ZEISS, ZEISS, 34118),
        (Dialect.TESCAN, b"\x01\x00[MAIN]\r\nMagnification=2000\r\nWD=0.013\r\n", 50431),
    ],
)
def test_damaged_parameters(dialect: Dialect, text: bytes, tag: int | None) -> None:
    read = 0
    for case in damaged(text, np.random.default_rng(len(text)), 400):
        image = b""
        if tag is not None:
            kind = 7 if tag == 50431 else 2
            value = case.replace(b"\0", b" ") + b"\0" if kind == 2 else case
            image = tiff(GREY, extratags=[(tag, kind, len(value), value, True)], metadata=None)
        try:
            found = read_parameters(dialect, b"" if tag is not None else case, image)
        except FrameError:
            continue
        assert np.isfinite([found.magnification, found.wd_mm]).all()
        read += 1
    assert read > 0
