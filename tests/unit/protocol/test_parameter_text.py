"""Parameter text, units, encodings and pairing against the protocol, section 1: tables written by hand."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semd.decision.rules import DEFAULT_LIMITS
from semd.domain.axes import AXES, Axis, Parameters
from semd.errors import ParameterMissingError, ParameterRangeError, ParameterTextError
from semd.protocol.pairing import Candidate, Dialect, natural_key, pair_names
from semd.protocol.parameter_text import check_parameters, format_parameters, from_key_values, parse_parameters
from semd.protocol.text_encoding import decode_text, key_values
from semd.protocol.units import KV_PER, MM_PER, NM_PER, X_PER, parse_quantity


@pytest.mark.parametrize(
    ("text", "scale", "default", "expected"),
    [
        ("9500", MM_PER, "um", 9.5),
        ("9.5 mm", MM_PER, "um", 9.5),
        ("9.5mm", MM_PER, "um", 9.5),
        ("0.0095 m", MM_PER, "um", 9.5),
        ("9500000nm", MM_PER, "um", 9.5),
        ("9500 µm", MM_PER, "um", 9.5),  # micro sign
        ("9500 μm", MM_PER, "um", 9.5),  # Greek mu
        ("+9.5e3", MM_PER, "um", 9.5),
        (".5 mm", MM_PER, "um", 0.5),
        ("15000", KV_PER, "v", 15.0),
        ("15 kV", KV_PER, "v", 15.0),
        ("15000 Volt", KV_PER, "v", 15.0),
        ("2000", X_PER, None, 2000.0),
        ("2000x", X_PER, None, 2000.0),
        ("36.84 K X", X_PER, None, 36840.0),
        ("2 KX", X_PER, None, 2000.0),
        ("82.68", NM_PER, "nm", 82.68),
        ("0.08268 um", NM_PER, "nm", 82.68),
    ],
)
def test_quantities(text: str, scale: dict[str, float], default: str | None, expected: float) -> None:
    assert parse_quantity(text, scale, default, "KEY") == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["", "abc", "1_000", "nan", "-inf", "Infinity", "1e999", "9,5", "9.5 parsec", "١٢", "--1"]
)
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ParameterTextError, match="KEY"):
        parse_quantity(text, MM_PER, "um", "KEY")


TEXT = """MAG=2000
WD=9500
BRIGHTNESS=40.5
CONTRAST=50
HV=15000
PIXEL=99.2
SAMPLE=주석 볼
STAGE=1.5,-2,0.25
ACTION=abc
"""
EXPECTED = Parameters(
    2000.0,
    9.5,
    40.5,
    50.0,
    hv_kv=15.0,
    pixel_nm=99.2,
    sample="주석 볼",
    stage_mm=(1.5, -2.0, 0.25),
    action_id="abc",
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(encoding: str, newline: str) -> None:
    assert parse_parameters(TEXT.replace("\n", newline).encode(encoding)) == EXPECTED


def test_order_case_and_unknown_lines_do_not_matter() -> None:
    lines = TEXT.replace("MAG", "mag").replace("WD", "Wd").splitlines()
    text = "\n".join(["# comment", "", "GUN=1", *reversed(lines), "trailing words", "=x"])
    assert parse_parameters(text.encode()) == EXPECTED


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"WD=9500\n", ParameterMissingError),
        (b"MAG=2000\n", ParameterMissingError),
        (b"MAG=\nWD=9500\n", ParameterMissingError),
        (b"", ParameterMissingError),
        (b"MAG=2000\nWD=nan\n", ParameterTextError),
        (b"MAG=2000\nWD=9500\nWD=8000\n", ParameterTextError),
        (b"MAG=2000\nWD=95\0\0\0", ParameterTextError),
        (b"\xff\xfeM\0A\0", ParameterMissingError),
        (b"\xff\xfeM\0A", ParameterTextError),  # half a UTF-16 character
        (b"\x80\xff", ParameterTextError),
    ],
)
def test_what_cannot_be_read(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_parameters(data)


@pytest.mark.parametrize(
    "line", ["HV=off", "PIXEL=auto", "PIXEL=0", "STAGE=1", "STAGE=1,2,3,4", "STAGE=a,b", "HV=1e999"]
)
def test_what_is_not_needed_rejects_nothing(line: str) -> None:
    assert parse_parameters(f"MAG=2000\nWD=9500\n{line}\n".encode()) == Parameters(2000.0, 9.5)


def test_brightness_is_needed_when_its_axis_is_controlled() -> None:
    keys = {"MAG": "2000", "WD": "9500", "BRIGHTNESS": "auto"}
    assert from_key_values(keys, (Axis.WD,)).brightness is None
    with pytest.raises(ParameterTextError, match="BRIGHTNESS"):
        from_key_values(keys)


def test_unknown_lines_may_repeat_and_known_ones_must_agree() -> None:
    assert parse_parameters(b"MAG=2000\nDATE=1\nDATE=2\nWD=9500\n").magnification == 2000.0
    with pytest.raises(ParameterTextError, match="WD stands twice"):
        parse_parameters(b"MAG=2000\nWD=9500\nWD=95\n")


def test_the_same_value_twice_is_harmless() -> None:
    assert parse_parameters(b"MAG=2000\nWD=9500\nWD=9500\n").wd_mm == 9.5


@pytest.mark.parametrize(
    ("parameters", "axes", "error"),
    [
        (Parameters(2000.0, 9.5, 40.0, 50.0), AXES, None),
        (Parameters(2000.0, 2.0, 0.0, 100.0), AXES, None),  # on the limits
        (Parameters(2000.0, 9.5), (Axis.WD,), None),
        (Parameters(2000.0, 9.5, 400.0), (Axis.WD,), None),  # not controlled: not our business
        (Parameters(2000.0, 9.5, 40.0), AXES, ParameterMissingError),
        (Parameters(2000.0, 1.99, 40.0, 50.0), AXES, ParameterRangeError),
        (Parameters(2000.0, 9.5, 40.0, 100.1), AXES, ParameterRangeError),
        (Parameters(0.0, 9.5, 40.0, 50.0), AXES, ParameterRangeError),
    ],
)
def test_limits(parameters: Parameters, axes: tuple[Axis, ...], error: type[Exception] | None) -> None:
    if error is None:
        check_parameters(parameters, axes, DEFAULT_LIMITS)
    else:
        with pytest.raises(error):
            check_parameters(parameters, axes, DEFAULT_LIMITS)


@given(
    wd_mm=st.floats(2, 40),
    brightness=st.none() | st.floats(0, 100),
    magnification=st.integers(20, 150_000),
    sample=st.none() | st.text(st.characters(categories=["L", "N"]), min_size=1),
)
def test_what_the_simulator_writes_is_read_back(
    wd_mm: float, brightness: float | None, magnification: int, sample: str | None
) -> None:
    written = Parameters(float(magnification), wd_mm, brightness, 1.0, sample=sample)
    read = parse_parameters(format_parameters(written).encode())
    assert read.wd_mm == pytest.approx(wd_mm, abs=0.5001e-5)
    assert read.brightness == (pytest.approx(brightness, abs=0.5001e-3) if brightness is not None else None)
    assert read.magnification == pytest.approx(magnification, rel=1e-5)
    assert read.sample == sample


@given(st.binary(max_size=300))
def test_bytes_are_read_or_refused_by_name(data: bytes) -> None:
    with contextlib.suppress(ParameterTextError, ParameterMissingError):
        parse_parameters(data)


def test_keys_and_separators() -> None:
    assert key_values("a = 1\nB=2=3\nnothing\nC=4\n", wanted={"A", "B"}) == {"A": "1", "B": "2=3"}
    assert decode_text("é".encode()) == "é"


@pytest.mark.parametrize(
    ("dialect", "names", "expected"),
    [
        (Dialect.COXEM, ["a.jpg", "a.txt"], [Candidate("a", "a.jpg", "a.txt", True)]),
        (Dialect.COXEM, ["A.JPG", "A.TXT"], [Candidate("A", "A.JPG", "A.TXT", True)]),
        (
            Dialect.COXEM,
            ["ResponseImage_20200210,214754.jpg"],
            [Candidate("ResponseImage_20200210,214754", "ResponseImage_20200210,214754.jpg", None, False)],
        ),
        (Dialect.COXEM, ["a.b.txt"], [Candidate("a.b", None, "a.b.txt", False)]),
        (Dialect.COXEM, ["a.png", "a.jpg", "a.txt"], [Candidate("a", "a.jpg", "a.txt", True)]),
        (Dialect.COXEM, [".a.jpg", "~a.txt", "a.jpg.tmp", "a.jpg.reason.txt", "txt", ".txt"], []),
        (Dialect.COXEM, ["a.tif", "a.hdr"], [Candidate("a", "a.tif", None, False)]),
        (Dialect.TESCAN, ["a.tif", "a.hdr"], [Candidate("a", "a.tif", "a.hdr", True)]),
        (Dialect.TESCAN, ["a.tif", "a-tif.hdr"], [Candidate("a", "a.tif", "a-tif.hdr", True)]),
        (Dialect.ZEISS, ["a.tif", "a.txt"], [Candidate("a", "a.tif", None, True)]),
        (Dialect.FEI, ["b.tif", "a.tif"], [Candidate("a", "a.tif", None, True), Candidate("b", "b.tif", None, True)]),
    ],
)
def test_pairs(dialect: Dialect, names: list[str], expected: list[Candidate]) -> None:
    assert pair_names(names, dialect) == expected


def test_natural_order() -> None:
    stems = ["frame-10", "frame-9", "frame-1a", "b", "frame-1", "²"]
    assert sorted(stems, key=natural_key) == ["b", "frame-1", "frame-1a", "frame-9", "frame-10", "²"]
