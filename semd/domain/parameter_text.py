"""The `coxem` parameter text: one `KEY=value` per line, read by key (protocol, section 1)."""

from __future__ import annotations

from semd.domain.axes import AXES, Axis, Parameters
from semd.domain.limits import Limits
from semd.domain.text import decode_text, key_values
from semd.domain.units import KV_PER, MM_PER, NM_PER, PLAIN, X_PER, parse_quantity
from semd.errors import ParameterMissingError, ParameterRangeError, ParameterTextError


def parse_parameters(data: bytes) -> Parameters:
    """Parse a parameter text of the `coxem` dialect.

    Raises:
        ParameterTextError: not text, or a value that is not a finite number with a known unit.
        ParameterMissingError: `MAG` or `WD` is absent.
    """
    return from_key_values(key_values(decode_text(data)))


def from_key_values(keys: dict[str, str]) -> Parameters:
    """Build the record from upper-case keys and their values as written."""
    for needed in ("MAG", "WD"):
        if not keys.get(needed):
            raise ParameterMissingError(f"{needed} is missing; write a line {needed}=<value>")
    return Parameters(
        magnification=parse_quantity(keys["MAG"], X_PER, None, "MAG"),
        wd_mm=parse_quantity(keys["WD"], MM_PER, "um", "WD"),
        brightness=_optional(keys, "BRIGHTNESS", PLAIN, None),
        contrast=_optional(keys, "CONTRAST", PLAIN, None),
        hv_kv=_optional(keys, "HV", KV_PER, "v"),
        pixel_nm=_optional(keys, "PIXEL", NM_PER, "nm"),
        sample=keys.get("SAMPLE") or None,
        stage_mm=_stage(keys.get("STAGE")),
        action_id=keys.get("ACTION") or None,
    )


def _optional(keys: dict[str, str], key: str, scale: dict[str, float], unit: str | None) -> float | None:
    value = keys.get(key)
    return parse_quantity(value, scale, unit, key) if value else None


def _stage(value: str | None) -> tuple[float, ...] | None:
    if not value:
        return None
    parts = value.split(",")
    if len(parts) not in (2, 3):
        raise ParameterTextError(f"STAGE={value[:40]!r} is not x,y or x,y,z in mm")
    return tuple(parse_quantity(part, MM_PER, "mm", "STAGE") for part in parts)


def check_parameters(parameters: Parameters, axes: tuple[Axis, ...], limits: Limits) -> None:
    """Refuse parameters that the control machine cannot work with.

    Raises:
        ParameterMissingError: a controlled axis has no value.
        ParameterRangeError: the magnification is not positive, or a value lies outside its limits.
    """
    if not parameters.magnification > 0:
        raise ParameterRangeError(f"MAG={parameters.magnification:g} is not positive")
    if parameters.pixel_nm is not None and not parameters.pixel_nm > 0:
        raise ParameterRangeError(f"PIXEL={parameters.pixel_nm:g} nm is not positive")
    for axis in AXES:
        value = parameters.value(axis)
        if value is None:
            if axis in axes:
                raise ParameterMissingError(f"{axis.upper()} is missing although the axis is controlled")
            continue
        low, high = limits[axis].low, limits[axis].high
        if (axis in axes or axis is Axis.WD) and not low <= value <= high:
            unit = " mm" if axis is Axis.WD else ""
            raise ParameterRangeError(
                f"{axis.upper()}={value:g}{unit} lies outside its limits {low:g}..{high:g}{unit} ([limits])"
            )


def format_parameters(parameters: Parameters) -> str:
    """Write the record as NanoStation does: micrometres for WD, CRLF line ends."""
    lines = [f"MAG={parameters.magnification:g}", f"WD={parameters.wd_mm * 1e3:.2f}"]
    if parameters.brightness is not None:
        lines.append(f"BRIGHTNESS={parameters.brightness:.3f}")
    if parameters.contrast is not None:
        lines.append(f"CONTRAST={parameters.contrast:.3f}")
    if parameters.hv_kv is not None:
        lines.append(f"HV={parameters.hv_kv * 1e3:g}")
    if parameters.pixel_nm is not None:
        lines.append(f"PIXEL={parameters.pixel_nm:.4f}")
    if parameters.sample is not None:
        lines.append(f"SAMPLE={parameters.sample}")
    if parameters.stage_mm is not None:
        lines.append("STAGE=" + ",".join(f"{value:.5f}" for value in parameters.stage_mm))
    if parameters.action_id is not None:
        lines.append(f"ACTION={parameters.action_id}")
    return "\r\n".join(lines) + "\r\n"
