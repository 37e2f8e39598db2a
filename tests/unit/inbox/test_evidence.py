"""Evidence that an image was written to its end, and things that must not count as such."""

from __future__ import annotations

import io
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from semd.decision.rules import DEFAULT_LIMITS
from semd.domain.axes import AXES
from semd.errors import ImageIncompleteError, ImageSizeError, ParameterTextError
from semd.inbox.image import FrameSize, decode_image
from semd.inbox.inbox import Inbox, InboxTimeouts
from semd.inbox.load import FrameLoader
from semd.inbox.watch import Hints
from semd.protocol.pairing import Dialect

TEXT = b"MAG=2000\r\nWD=9500\r\nBRIGHTNESS=40\r\nCONTRAST=50\r\n"
NOISE = np.random.default_rng(5).integers(30, 220, (480, 640), dtype=np.uint8)
LOADER = FrameLoader(Dialect.COXEM, FrameSize(), AXES, DEFAULT_LIMITS)


def tiff(picture: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, picture, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def encoded(suffix: str, picture: np.ndarray) -> bytes:
    return tiff(picture) if suffix == ".tif" else cv2.imencode(suffix, picture)[1].tobytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif"])
def test_a_header_that_is_written_last_is_waited_for(suffix: str) -> None:
    whole = encoded(suffix, NOISE)
    with pytest.raises(ImageIncompleteError):
        decode_image(bytes(512) + whole[512:], suffix)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_a_hole_in_a_jpeg_is_no_picture(place: float) -> None:
    whole = encoded(".jpg", NOISE)
    start = int(len(whole) * place)
    with pytest.raises(ImageIncompleteError):
        decode_image(whole[:start] + bytes(4096) + whole[start + 4096 :], ".jpg")


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_constant_jpeg_has_no_holes(level: int) -> None:
    picture = np.full((480, 640), level, np.uint8)
    assert np.array_equal(decode_image(encoded(".jpg", picture), ".jpg"), picture)


def spots_on_black() -> np.ndarray:
    """An underexposed frame: all black, but for a band of spots in the middle."""
    picture = np.zeros((480, 640), np.uint8)
    picture[200:280] = NOISE[200:280]
    return picture


@pytest.mark.parametrize("suffix", [".bmp", ".tif"])
def test_an_underexposed_frame_is_written_to_its_end(suffix: str) -> None:
    assert np.array_equal(decode_image(encoded(suffix, spots_on_black()), suffix), spots_on_black())


def test_eight_bits_in_the_upper_byte_are_not_taken_for_black() -> None:
    whole = tiff(NOISE.astype(np.uint16) << 8)
    cut = len(whole) * 3 // 4
    with pytest.raises(ImageIncompleteError):
        decode_image(whole[:cut] + bytes(len(whole) - cut), ".tif")


def test_a_png_with_an_empty_header_chunk_is_refused() -> None:
    def chunk(kind: bytes) -> bytes:
        return struct.pack(">I", 0) + kind + struct.pack(">I", zlib.crc32(kind))

    with pytest.raises(ImageIncompleteError):
        decode_image(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR"), ".png")


def test_separate_planes_are_a_picture() -> None:
    planes = tiff(np.stack([NOISE] * 3), photometric="rgb", planarconfig="separate")
    assert np.array_equal(decode_image(planes, ".tif"), NOISE)


def test_a_colour_map_of_eight_bits_is_understood() -> None:
    ramp = np.stack([np.arange(256, dtype=np.uint16)[::-1]] * 3)
    assert np.array_equal(decode_image(tiff(NOISE, photometric="palette", colormap=ramp), ".tif"), 255 - NOISE)


@pytest.mark.parametrize(
    ("shape", "bar_px", "factor"),
    [((480, 640), 0, 1.0), ((960, 1280), 0, 2.0), ((1040, 1280), 80, 2.0), ((768, 1024), 78, 920 / 640)],
)
def test_the_pixel_size_is_that_of_the_frame(
    tmp_path: Path, shape: tuple[int, int], bar_px: int, factor: float
) -> None:
    # 768 - 78 = 690 rows; 690 * 4 / 3 = 920 columns of 1024 become 640.
    loader = replace(LOADER, size=FrameSize(info_bar_px=bar_px))
    image = encoded(".png", cv2.resize(NOISE, shape[::-1]))
    frame = loader.build("a", tmp_path / "a.png", tmp_path / "a.txt", image, TEXT + b"PIXEL=10\r\n")
    assert frame.parameters.pixel_nm == pytest.approx(10.0 * factor)


def test_no_more_is_read_than_is_taken(tmp_path: Path) -> None:
    loader = replace(LOADER, size=FrameSize(max_bytes=1000))
    image, text = tmp_path / "a.jpg", tmp_path / "a.txt"
    image.write_bytes(encoded(".jpg", NOISE))
    text.write_bytes(TEXT)
    assert [len(data) for data in loader.read(image, text)] == [1001, len(TEXT)]
    assert isinstance(loader.load("a", image, text).image_error, ImageSizeError)
    with text.open("ab") as file:
        file.truncate(1 << 30)  # sparse: takes no room
    with pytest.raises(ParameterTextError, match="more than"):
        loader.load("a", image, text)


def test_a_rewrite_that_looks_the_same_takes_back_the_close(tmp_path: Path) -> None:
    """Two writes within one tick of the file system's clock leave size and times alone."""
    inbox = Inbox(tmp_path, LOADER, InboxTimeouts(), lambda _: False)
    (tmp_path / "a.jpg").write_bytes(encoded(".jpg", NOISE))
    (tmp_path / "a.txt").write_bytes(TEXT)
    names = {"a.jpg", "a.txt"}
    assert inbox.poll(Hints(names, {"a.jpg"}), 0.0) == []
    assert inbox.poll(Hints(names, {"a.txt"}), 0.1) == []
    assert [item.content.stem for item in inbox.poll(Hints({"a.jpg"}, {"a.jpg"}), 0.2)] == ["a"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in directories")
def test_a_pipe_is_never_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_bytes(TEXT)
    inbox = Inbox(tmp_path, LOADER, InboxTimeouts(), lambda _: False)
    names = {"a.jpg", "a.txt"}
    assert inbox.poll(Hints(names, names), 0.0) == []
    assert inbox.poll(Hints(names, names), 5.0) == []
