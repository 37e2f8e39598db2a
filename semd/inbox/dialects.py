"""The parameter dialects of other vendors, each mapped to the one record (protocol, section 1).

A sidecar dialect is a table: which key holds which parameter, and the unit when none is written. Zeiss and FEI
write their parameters into tags of the TIFF.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import tifffile

from semd.domain.axes import AXES, Axis, Parameters
from semd.errors import ParameterMissingError, ParameterTextError
from semd.protocol.pairing import Dialect
from semd.protocol.parameter_text import KEYS, from_key_values
from semd.protocol.text_encoding import decode_text, key_values

Keys = dict[str, str]
"""Some of the protocol's keys and their values as written."""

_TESCAN_TAG, _ZEISS_TAG, _FEI_TAG = 50431, 34118, 34682
_MOST_TAG_BYTES = 1 << 20
_MOST_TAG_LINES = 10_000
"""Reading Zeiss's tag takes time that grows with the square of its lines; real ones have hundreds."""

_HITACHI = {
    "MAGNIFICATION": "MAG", "WORKINGDISTANCE": "WD", "BRIGHTNESS": "BRIGHTNESS", "CONTRAST": "CONTRAST",
    "ACCELERATINGVOLTAGE": "HV", "PIXELSIZE": "PIXEL", "SAMPLENAME": "SAMPLE",
}  # fmt: skip
_JEOL = {
    "$CM_MAG": "MAG", "$$SM_WD": "WD", "$CM_BRIGHTNESS": "BRIGHTNESS", "$CM_CONTRAST": "CONTRAST",
    "$CM_ACCEL_VOLT": "HV", "$CM_TITLE": "SAMPLE",
}  # fmt: skip
_TESCAN = {
    "MAGNIFICATION": "MAG", "WD": "WD", "BRIGHTNESS": "BRIGHTNESS", "CONTRAST": "CONTRAST", "GAIN": "CONTRAST",
    "HV": "HV", "PIXELSIZEX": "PIXEL", "SAMPLENAME": "SAMPLE",
}  # fmt: skip
_TESCAN_DETECTOR = {"DETECTOR0GAIN": "CONTRAST", "DETECTOR0OFFSET": "BRIGHTNESS"}

# Never fails, and its µ is what an 8-bit `um` would be; only sample names suffer, and alike on every frame.
_VENDOR_ENCODING = "latin-1"


def read_parameters(dialect: Dialect, text: bytes, image: bytes, axes: tuple[Axis, ...] = AXES) -> Parameters:
    """Read a frame's parameters.

    Args:
        dialect: whose.
        text: the parameter file; empty where the image carries the parameters.
        image: the image file.
        axes: controlled axes, whose values are needed.

    Raises:
        ParameterTextError, ParameterMissingError: they cannot be read; says what is wrong.
    """
    if dialect is Dialect.TESCAN and not text:
        text = _tag_bytes(image, _TESCAN_TAG)
    return from_key_values(_READERS[dialect](text, image), axes)


def _coxem(text: bytes, _: bytes) -> Keys:
    return key_values(decode_text(text), wanted=KEYS)


def _hitachi(text: bytes, _: bytes) -> Keys:
    # `WorkingDistance=7920.5 um`, voltages `15000 Volt`, pixels in nm: the units coxem assumes.
    return _renamed(key_values(decode_text(text, _VENDOR_ENCODING), wanted=_HITACHI), _HITACHI)


def _jeol(text: bytes, _: bytes) -> Keys:
    lines = decode_text(text, _VENDOR_ENCODING).splitlines()
    pairs = "\n".join("=".join(line.split(None, 1)) for line in lines if line.startswith("$"))
    return _with_units(_renamed(key_values(pairs, wanted=_JEOL), _JEOL), {"WD": "mm", "HV": "kV"})


def _tescan(text: bytes, _: bytes) -> Keys:
    wanted = _TESCAN.keys() | _TESCAN_DETECTOR.keys()
    keys = key_values(decode_text(text.rstrip(b"\0"), _VENDOR_ENCODING), wanted=wanted)
    for written, meant in _TESCAN_DETECTOR.items():
        if written in keys:
            keys.setdefault(meant, keys[written])
    return _with_units(_renamed(keys, _TESCAN), {"WD": "m", "HV": "V", "PIXEL": "m"})


def _zeiss(_: bytes, image: bytes) -> Keys:
    found = _metadata(image, _ZEISS_TAG, lambda file: file.sem_metadata, "Zeiss")
    keys = {}
    for name, key in (
        ("ap_mag", "MAG"), ("ap_wd", "WD"), ("ap_brightness", "BRIGHTNESS"), ("ap_contrast", "CONTRAST"),
        ("ap_actualkv", "HV"), ("ap_image_pixel_size", "PIXEL"),
    ):  # fmt: skip
        entry = found.get(name)
        if entry is not None:
            # The entry is a name, a value and, for most, a unit.
            keys[key] = " ".join(str(part) for part in entry[1:])
    stage = [found.get(f"ap_stage_at_{letter}") for letter in "xyz"]
    if all(entry is not None for entry in stage):
        keys["STAGE"] = ",".join(" ".join(str(part) for part in entry[1:]) for entry in stage if entry)
    return keys


def _fei(_: bytes, image: bytes) -> Keys:
    found = _metadata(image, _FEI_TAG, lambda file: file.fei_metadata, "FEI")
    beam, scan, stage = (_section(found, name) for name in ("Beam", "Scan", "Stage"))
    electron = _section(found, str(beam.get("Beam", "EBeam"))) | _section(found, "EBeam")
    detector = _section(found, str(_section(found, "Detectors").get("Name", "")))
    keys = {
        "WD": _metres(electron.get("WD") or beam.get("WD")),
        "HV": _with(electron.get("HV") or beam.get("HV"), "V"),
        "PIXEL": _metres(scan.get("PixelWidth")),
        "BRIGHTNESS": _with(detector.get("Brightness"), ""),
        "CONTRAST": _with(detector.get("Contrast"), ""),
        "MAG": _with(_fei_magnification(found, scan), ""),
        "STAGE": ",".join(_metres(stage[axis]) for axis in ("StageX", "StageY") if axis in stage),
    }
    return {key: value for key, value in keys.items() if value}


def _fei_magnification(found: Mapping[str, Any], scan: Mapping[str, Any]) -> object:
    """Written in [Image] or [PrivateFei]; else from the field width, by the photographic convention."""
    for section in ("Image", "PrivateFei", "EScan"):
        value = _section(found, section).get("MagnificationReal") or _section(found, section).get("Magnification")
        if value:
            return value
    width_m = scan.get("HorFieldsize") or _section(found, "EScan").get("HorFieldsize")
    if not isinstance(width_m, (int, float)) or not width_m:
        return None
    try:
        return 0.127 / width_m
    except OverflowError:  # an integer of hundreds of digits
        return None


def _metadata(image: bytes, tag: int, read: Callable[[tifffile.TiffFile], Any], whose: str) -> Mapping[str, Any]:
    try:
        with tifffile.TiffFile(io.BytesIO(image)) as file:
            _check_tag(file, tag, image)
            found = read(file)
    except ParameterTextError:
        raise
    except Exception as error:
        raise ParameterTextError(f"the image's tags cannot be read: {type(error).__name__}: {error}"[:300]) from error
    if not found or not isinstance(found, Mapping):  # an unreadable tag comes as the bytes it is
        raise ParameterMissingError(f"the image carries no parameters of {whose} (tag {tag}) that can be read")
    return found


def _check_tag(file: tifffile.TiffFile, number: int, image: bytes) -> None:
    """Look at how much a tag holds before its value, which is read when it is asked for."""
    tag = file.pages.first.tags.get(number)
    if tag is None:
        return
    if tag.valuebytecount > _MOST_TAG_BYTES:
        raise ParameterTextError(
            f"tag {number} of the image has {tag.valuebytecount} bytes; {_MOST_TAG_BYTES} are read"
        )
    value = image[tag.valueoffset : tag.valueoffset + tag.valuebytecount]
    n_lines = len(value.decode("latin-1").splitlines())
    if n_lines > _MOST_TAG_LINES:
        raise ParameterTextError(f"tag {number} of the image has {n_lines} lines; {_MOST_TAG_LINES} are read")


def _tag_bytes(image: bytes, number: int) -> bytes:
    def read(file: tifffile.TiffFile) -> bytes:
        _check_tag(file, number, image)
        tag = file.pages.first.tags.get(number)
        return bytes(tag.value) if tag is not None else b""

    try:
        with tifffile.TiffFile(io.BytesIO(image)) as file:
            found = read(file)
    except ParameterTextError:
        raise
    except Exception as error:
        raise ParameterTextError(f"the image's tags cannot be read: {type(error).__name__}: {error}"[:300]) from error
    # The tag begins with binary headers; the text starts at its first section.
    start = found.find(b"[MAIN]")
    if start < 0:
        raise ParameterMissingError(f"there is no .hdr file, and the image carries no tag {number}")
    return found[start:]


def _section(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = found.get(name)
    return dict(section) if isinstance(section, Mapping) else {}


def _with(value: object, unit: str) -> str:
    return f"{value} {unit}".strip() if value not in (None, "") else ""


def _metres(value: object) -> str:
    return _with(value, "m")


def _renamed(keys: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    return {names[key]: value for key, value in keys.items() if key in names}


def _with_units(keys: Mapping[str, str], units: Mapping[str, str]) -> dict[str, str]:
    return {key: f"{value} {units[key]}" if key in units and value else value for key, value in keys.items()}


_READERS: dict[Dialect, Callable[[bytes, bytes], Keys]] = {
    Dialect.COXEM: _coxem,
    Dialect.HITACHI: _hitachi,
    Dialect.JEOL: _jeol,
    Dialect.TESCAN: _tescan,
    Dialect.ZEISS: _zeiss,
    Dialect.FEI: _fei,
}
