"""Every vendor's parameters come out as the same record; texts written by hand after files of real instruments."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile

from semd.domain.axes import Parameters
from semd.errors import FrameError, ParameterMissingError
from semd.inbox.dialects import read_parameters
from semd.protocol.pairing import Dialect

REAL = Path(__file__).parents[4] / "shared" / "realsem"

HITACHI = """[SemImageFile]\r
InstructName=TM4000\r
SampleName=tin balls\r
AcceleratingVoltage=15000 Volt\r
Magnification=1200\r
WorkingDistance=7920.5 um\r
PixelSize=82.68\r
Brightness=512\r
Contrast=1024\r
"""
JEOL = """$CM_FORMAT BMP
$CM_FULL_SIZE 1280 960
$CM_ACCEL_VOLT 5.00
$CM_MAG 50
$CM_BRIGHTNESS 48
$CM_CONTRAST 53
$$SM_WD 9.07
"""
TESCAN = """[MAIN]
Magnification=2000
PixelSizeX=1.24e-7
[SEM]
HV=20000
WD=13.250e-3
Detector0Gain=31.5
Detector0Offset=71.2
"""


@pytest.mark.parametrize(
    ("dialect", "text", "expected"),
    [
        (
            Dialect.COXEM,
            b"MAG=2 K X\nwd=9.5 mm\nBRIGHTNESS=40 %\nCONTRAST=50\nHV=15 kV\n",
            Parameters(2000.0, 9.5, 40.0, 50.0, hv_kv=15.0),
        ),
        (
            Dialect.HITACHI,
            HITACHI.encode("utf-16"),
            Parameters(1200.0, 7.9205, 512.0, 1024.0, hv_kv=15.0, pixel_nm=82.68, sample="tin balls"),
        ),
        (
            Dialect.HITACHI,
            HITACHI.removeprefix("[SemImageFile]\r\n").encode("cp949"),
            Parameters(1200.0, 7.9205, 512.0, 1024.0, hv_kv=15.0, pixel_nm=82.68, sample="tin balls"),
        ),
        (Dialect.JEOL, JEOL.encode(), Parameters(50.0, 9.07, 48.0, 53.0, hv_kv=5.0)),
        (Dialect.TESCAN, TESCAN.encode(), Parameters(2000.0, 13.25, 71.2, 31.5, hv_kv=20.0, pixel_nm=124.0)),
    ],
)
def test_sidecars(dialect: Dialect, text: bytes, expected: Parameters) -> None:
    found = read_parameters(dialect, text, b"")
    for name in Parameters.__dataclass_fields__:
        wanted = getattr(expected, name)
        assert getattr(found, name) == (pytest.approx(wanted) if isinstance(wanted, float) else wanted), name


def tiff_with(tag: int, value: bytes) -> bytes:
    buffer = io.BytesIO()
    picture = np.zeros((480, 640), np.uint8)
    kind = 7 if tag == 50431 else 2
    tifffile.imwrite(buffer, picture, extratags=[(tag, kind, len(value), value, True)], metadata=None)
    return buffer.getvalue()


def test_tescan_without_a_header_file_reads_the_tag() -> None:
    image = tiff_with(50431, b"\x01\x02\x03\x00" + TESCAN.encode() + b"\0")
    assert read_parameters(Dialect.TESCAN, b"", image).wd_mm == pytest.approx(13.25)


def test_fei() -> None:
    text = """[User]
Date=01/01/2020
[Beam]
HV=5000
Beam=EBeam
[EBeam]
WD=0.0041
HV=5000
[Scan]
PixelWidth=3.1e-008
HorFieldsize=2.0e-005
[Detectors]
Name=ETD
[ETD]
Brightness=46.1
Contrast=62.5
"""
    found = read_parameters(Dialect.FEI, b"", tiff_with(34682, text.replace("\n", "\r\n").encode() + b"\0"))
    assert found.wd_mm == pytest.approx(4.1)
    assert found.hv_kv == pytest.approx(5.0)
    assert found.pixel_nm == pytest.approx(31.0)
    assert (found.brightness, found.contrast) == (46.1, 62.5)
    assert found.magnification == pytest.approx(0.127 / 2e-5)


@pytest.mark.parametrize(
    ("name", "magnification", "wd_mm", "brightness", "contrast"),
    [
        # As the files' own tag 34118 shows them in a text viewer.
        ("16_Sch_10k_InLens.tif", 10_000.0, 4.967, 48.7, 24.9),
        ("FeMoOx_AntiA_04_1k5x_CN.tif", 1_500.0, 5.1, 51.0, 19.7),
    ],
)
def test_real_zeiss(name: str, magnification: float, wd_mm: float, brightness: float, contrast: float) -> None:
    path = REAL / "zeiss" / name
    if not path.exists():
        pytest.skip("the real micrographs are not part of the project")
    found = read_parameters(Dialect.ZEISS, b"", path.read_bytes())
    assert found.magnification == pytest.approx(magnification)
    assert found.wd_mm == pytest.approx(wd_mm, abs=1e-3)
    assert (found.brightness, found.contrast) == (brightness, contrast)


@pytest.mark.parametrize("dialect", Dialect)
def test_nothing_useful_is_an_error_of_ours(dialect: Dialect) -> None:
    image = tiff_with(270, b"hello\0")
    with pytest.raises(ParameterMissingError):
        read_parameters(dialect, b"" if dialect in (Dialect.ZEISS, Dialect.FEI, Dialect.TESCAN) else b"x=1\n", image)


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("junk", [b"", b"\xff\xfe\x00", bytes(100), b"\xff" * 50, b"MAG=\nWD=\n"])
def test_junk_is_an_error_of_ours(dialect: Dialect, junk: bytes) -> None:
    with pytest.raises(FrameError):
        read_parameters(dialect, junk, junk)


@pytest.mark.parametrize(
    ("dialect", "text", "wd_mm"),
    [
        (Dialect.HITACHI, b"Magnification=1200\r\nWorkingDistance=7920.5 \xb5m\r\n", 7.9205),
        (Dialect.HITACHI, "Magnification=1200\r\nWorkingDistance=7920.5\r\nSampleName=ｱ\r\n".encode("cp932"), 7.9205),
        (Dialect.JEOL, "$CM_MAG 50\r\n$$SM_WD 9.07\r\n$CM_TITLE 試料ｱ\r\n".encode("cp932"), 9.07),
        (Dialect.COXEM, b"MAG=50\r\nWD=9070\r\nNOTE=a\r\nNOTE=b\r\n", 9.07),
        (Dialect.JEOL, b"$CM_MAG 50\r\n$$SM_WD 9.07\r\n$CM_COMMENT a\r\n$CM_COMMENT b\r\n", 9.07),
    ],
)  # fmt: skip
def test_other_encodings_and_repeated_strangers_spoil_nothing(dialect: Dialect, text: bytes, wd_mm: float) -> None:
    assert read_parameters(dialect, text, b"").wd_mm == pytest.approx(wd_mm)
