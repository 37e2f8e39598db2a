"""Small files that ask for hours or gigabytes are refused before they get them."""

from __future__ import annotations

import io
import struct
import time

import numpy as np
import pytest
import tifffile

from semd.errors import ImageFormatError, ImageSizeError, ParameterTextError
from semd.inbox.dialects import read_parameters
from semd.inbox.image import FrameSize, decode_image
from semd.protocol.pairing import Dialect

GREY = np.arange(60 * 80, dtype=np.uint32).reshape(60, 80).astype(np.uint8)
PARAMETERS = b"AP_WD\r\nWD = 5.1 mm\r\nAP_MAG\r\nMag = 1.50 K X\r\n"
TAGS = {Dialect.ZEISS: (34118, 2), Dialect.FEI: (34682, 2), Dialect.TESCAN: (50431, 7)}


def tiff(text: bytes, tag: int, kind: int) -> bytes:
    buffer = io.BytesIO()
    value = text + b"\0"
    tifffile.imwrite(buffer, GREY, extratags=[(tag, kind, len(value), value, True)], metadata=None)
    return buffer.getvalue()


def with_entry(data: bytes, name: str, value: int) -> bytes:
    """The same TIFF with another value in one of its entries."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tag = file.pages.first.tags[name]
    changed = bytearray(data)
    kind = {1: "<B", 3: "<H", 4: "<I"}[int(tag.dtype)]
    struct.pack_into(kind, changed, tag.offset + 8, value)
    return bytes(changed)


@pytest.mark.parametrize("dialect", TAGS)
@pytest.mark.parametrize(("text", "what"), [(b"\n" * 200_000, "lines"), (b"x" * 2_000_000, "bytes")])
def test_a_tag_of_countless_lines_is_refused_at_once(dialect: Dialect, text: bytes, what: str) -> None:
    begun_s = time.process_time()
    with pytest.raises(ParameterTextError, match=what):
        read_parameters(dialect, b"", tiff(b"[MAIN]\r\n" + PARAMETERS + text, *TAGS[dialect]), ())
    # Reading 200,000 lines took tifffile half a minute.
    assert time.process_time() - begun_s < 5.0


def test_a_tag_as_long_as_real_ones_is_read() -> None:
    lines = b"".join(b"AP_X%d\r\nX = %d\r\n" % (number, number) for number in range(2000))
    found = read_parameters(Dialect.ZEISS, b"", tiff(PARAMETERS + lines, *TAGS[Dialect.ZEISS]), ())
    assert (found.magnification, found.wd_mm) == (1500.0, pytest.approx(5.1))


def test_thousands_of_channels_are_refused() -> None:
    planes = np.stack([GREY] * 3)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, planes, photometric="rgb", planarconfig="separate", metadata=None)
    assert decode_image(buffer.getvalue(), ".tif", FrameSize(80, 60)).shape == (60, 80)
    with pytest.raises(ImageFormatError, match="65283 channels"):
        decode_image(with_entry(buffer.getvalue(), "SamplesPerPixel", 65283), ".tif", FrameSize(80, 60))


def test_a_tile_of_billions_of_rows_is_refused() -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, GREY, tile=(16, 16), compression="zlib", metadata=None)
    assert decode_image(buffer.getvalue(), ".tif", FrameSize(80, 60)).shape == (60, 80)
    with pytest.raises(ImageSizeError, match="68451041536 bytes"):  # 16 * 4278190096
        decode_image(with_entry(buffer.getvalue(), "TileLength", 4278190096), ".tif", FrameSize(80, 60))


def test_a_picture_in_a_million_pieces_is_refused() -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((1024, 1024), np.uint8), tile=(256, 256), metadata=None)
    assert decode_image(buffer.getvalue(), ".tif", FrameSize(80, 60)).shape == (60, 80)
    bomb = with_entry(with_entry(buffer.getvalue(), "TileWidth", 1), "TileLength", 1)
    with pytest.raises(ImageSizeError, match="1048576 strips or tiles"):
        decode_image(bomb, ".tif", FrameSize(80, 60))
