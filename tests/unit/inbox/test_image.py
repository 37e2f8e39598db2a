"""Images as instruments write them, whole and broken."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from semd.errors import FrameError, ImageFormatError, ImageIncompleteError, ImageSizeError
from semd.inbox.image import FrameSize, decode_image
from semd.simulator.frame_writer import ImageFormat, encode_image

REAL = Path(__file__).parents[4] / "shared" / "realsem"
RNG = np.random.default_rng(7)
SMOOTH = cv2.GaussianBlur(RNG.integers(0, 255, (480, 640), dtype=np.uint8), (0, 0), 3)
GREY = cv2.normalize(SMOOTH, None, 10, 245, cv2.NORM_MINMAX).astype(np.uint8)


def tiff(picture: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, picture, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def encoded(suffix: str, picture: np.ndarray) -> bytes:
    return cv2.imencode(suffix, picture)[1].tobytes()


@pytest.mark.parametrize("image_format", ImageFormat)
def test_every_format(image_format: ImageFormat) -> None:
    frame = decode_image(encode_image(GREY, image_format), f".{image_format}")
    assert (frame.dtype, frame.shape) == (np.uint8, (480, 640))
    assert frame.flags.c_contiguous
    error = np.abs(frame.astype(int) - GREY).max()
    assert error == 0 if image_format is not ImageFormat.JPG else error < 12


def palette(picture: np.ndarray) -> np.ndarray:
    ramp = np.arange(256, dtype=np.uint16)[::-1] * 257  # reversed, so that ignoring the map shows
    return tiff(picture, photometric="palette", colormap=np.stack([ramp] * 3))


@pytest.mark.parametrize(
    ("data", "suffix"),
    [
        (encoded(".png", GREY.astype(np.uint16) * 257), ".png"),
        (encoded(".png", cv2.merge([GREY] * 3)), ".png"),
        (encoded(".png", cv2.merge([GREY] * 4)), ".png"),
        (encoded(".bmp", cv2.merge([GREY] * 3)), ".bmp"),
        (tiff(GREY.astype(np.uint16) * 257), ".tif"),
        (tiff(GREY.astype(np.uint16) * 16 + 15), ".tif"),  # 12 bits in 16: 245 * 16 + 15 = 3935 needs 12
        (tiff(np.dstack([GREY] * 3), photometric="rgb"), ".tiff"),
        (tiff(255 - GREY, photometric="miniswhite"), ".tif"),
        (tiff(GREY, compression="lzw"), ".tif"),
        (palette(255 - GREY), ".tif"),
    ],
)
def test_depths_and_colours_come_out_the_same(data: bytes, suffix: str) -> None:
    assert np.abs(decode_image(data, suffix).astype(int) - GREY).max() <= 1


def test_a_colour_jpeg_is_its_luminance_and_an_orientation_tag_turns_nothing() -> None:
    bgr = cv2.merge([GREY // 2, GREY, 255 - GREY])
    smooth = cv2.GaussianBlur(bgr, (0, 0), 4)
    data = cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    wanted = smooth @ np.array([0.114, 0.587, 0.299])
    assert np.abs(decode_image(data, ".jpg") - wanted).max() < 6
    turned = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + bytes(4)
    segment = b"\xff\xe1" + struct.pack(">H", len(turned) + 2) + turned
    assert np.array_equal(decode_image(data[:2] + segment + data[2:], ".jpg"), decode_image(data, ".jpg"))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_palette_that_does_not_fit_its_pixels_is_an_error_of_ours(dtype: type) -> None:
    # A lying header: pixels of 16 bits or floats that claim to be indices of a map of 256.
    data = bytearray(tiff(GREY.astype(dtype) * 200))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        tags = file.pages.first.tags
        place, spare = tags["PhotometricInterpretation"].valueoffset, tags["Software"].offset
    data[place : place + 2] = struct.pack("<H", 3)
    data[spare : spare + 12] = struct.pack("<HHII", 320, 3, 768, 8)
    with pytest.raises(ImageFormatError):
        decode_image(bytes(data), ".tif")


def test_a_tiff_of_countless_channels_is_refused_before_it_is_decoded() -> None:
    data = bytearray(tiff(GREY))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        place = file.pages.first.tags["SamplesPerPixel"].valueoffset
    data[place : place + 2] = b"\xff\xff"
    with pytest.raises(ImageSizeError, match="claims"):
        decode_image(bytes(data), ".tif")


def test_an_info_bar_below_is_cut_off() -> None:
    with_bar = np.vstack([GREY, np.full((40, 640), 255, np.uint8)])
    assert np.array_equal(decode_image(encoded(".png", with_bar), ".png"), GREY)


def test_an_info_bar_within_the_proportions_is_cut_off_when_named() -> None:
    large = cv2.resize(GREY, (1280, 960), interpolation=cv2.INTER_NEAREST)
    large[-64:] = 255
    frame = decode_image(encoded(".png", large), ".png", FrameSize(info_bar_px=64))
    assert frame.shape == (480, 640)
    assert frame.max() <= 245  # nothing of the bar


def test_larger_frames_are_scaled_by_area() -> None:
    large = np.kron(GREY, np.ones((2, 2), np.uint8))
    assert np.array_equal(decode_image(encoded(".png", large), ".png"), GREY)


@pytest.mark.parametrize("shape", [(240, 320), (479, 640), (480, 639), (1, 1)])
def test_small_frames_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ImageSizeError, match="640 x 480"):
        decode_image(encoded(".png", np.zeros(shape, np.uint8) + 7), ".png")


WHOLE = {
    ".jpg": encode_image(GREY, ImageFormat.JPG),
    ".png": encode_image(GREY, ImageFormat.PNG),
    ".bmp": encode_image(GREY, ImageFormat.BMP),
    ".tif": tiff(GREY),
}


@pytest.mark.parametrize("suffix", WHOLE)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.97])
def test_a_part_is_never_taken(suffix: str, share: float) -> None:
    data = WHOLE[suffix]
    cut = data[: int(len(data) * share)]
    with pytest.raises(ImageIncompleteError):
        decode_image(cut, suffix)
    with pytest.raises(ImageIncompleteError):  # pre-allocated: full size, zero where nothing was written yet
        decode_image(cut + bytes(len(data) - len(cut)), suffix)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_the_last_byte_matters(suffix: str) -> None:
    with pytest.raises(ImageIncompleteError):
        decode_image(WHOLE[suffix][:-1], suffix)


def test_a_short_jpeg_over_a_long_one_is_the_short_one() -> None:
    # Overwritten in place without cutting the file: the old tail lies behind the new end marker.
    flat = encode_image(np.full((480, 640), 90, np.uint8), ImageFormat.JPG)
    assert np.abs(decode_image(flat + WHOLE[".jpg"][len(flat) :], ".jpg").astype(int) - 90).max() <= 1


@pytest.mark.parametrize("suffix", WHOLE)
def test_black_all_over_is_a_picture(suffix: str) -> None:
    black = np.zeros((480, 640), np.uint8)
    data = {".jpg": encode_image(black, ImageFormat.JPG), ".tif": tiff(black)}.get(suffix) or encoded(suffix, black)
    assert decode_image(data, suffix).max() == 0


@pytest.mark.parametrize("suffix", WHOLE)
@pytest.mark.parametrize("named", [".jpg", ".png", ".bmp", ".tif"])
def test_mislabelled_files_are_refused(suffix: str, named: str) -> None:
    if suffix != named:
        with pytest.raises(ImageFormatError, match=r"named \."):
            decode_image(WHOLE[suffix], named)


def test_text_is_no_image() -> None:
    with pytest.raises(ImageFormatError):
        decode_image(b"MAG=2000\r\nWD=9500\r\n", ".jpg")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb() -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def bmp_bomb() -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 8, 0, 0, 1, 1, 0, 0)
    )


def test_bombs_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(ImageSizeError, match="30000 x 30000"):
        decode_image(png_bomb(), ".png")
    with pytest.raises(ImageSizeError, match="60000 x 60000"):
        decode_image(bmp_bomb(), ".bmp")
    with pytest.raises(ImageSizeError, match="max_image_mb"):
        decode_image(WHOLE[".bmp"], ".bmp", FrameSize(max_bytes=1000))


def test_a_tiff_whose_header_lies_is_refused() -> None:
    data = bytearray(WHOLE[".tif"])
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        place = file.pages.first.tags["ImageLength"].valueoffset
    data[place : place + 4] = struct.pack("<I", 2**31 - 1)
    with pytest.raises(FrameError):
        decode_image(bytes(data), ".tif")


@pytest.mark.parametrize("name", ["16_Sch_10k_InLens.tif", "FeMoOx_AntiA_04_1k5x_CN.tif"])
def test_real_zeiss_frames(name: str) -> None:
    path = REAL / "zeiss" / name
    if not path.exists():
        pytest.skip("the real micrographs are not part of the project")
    frame = decode_image(path.read_bytes(), ".tif", FrameSize(info_bar_px=68))
    assert frame.shape == (480, 640)
    assert 20 < frame.mean() < 235
    assert frame.std() > 10
