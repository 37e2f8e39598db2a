"""The `coxem` parameter text: one `KEY=value` per line, read by key (protocol, section 1)."""

from __future__ import annotations

from collections.abc import Mapping

from semd.domain.axes import AXES, Axis, Parameters
from semd.domain.limits import Limits
from semd.errors import ParameterMissingError, ParameterRangeError, ParameterTextError
from semd.protocol.text_encoding import decode_text, key_values
from semd.protocol.units import KV_PER, MM_PER, NM_PER, PLAIN, X_PER, parse_quantity

KEYS = frozenset({"MAG", "WD", "BRIGHTNESS", "CONTRAST", "HV", "PIXEL", "SAMPLE", "STAGE", "ACTION"})
"""Upper-case keys that a parameter text may hold."""


def parse_parameters(data: bytes) -> Parameters:
    """Parse a parameter text of the `coxem` dialect.

    Raises:
        ParameterTextError: not text, or a value that is not a finite number with a known unit.
        ParameterMissingError: `MAG` or `WD` is absent.
    """
    return from_key_values(key_values(decode_text(data), wanted=KEYS))


def from_key_values(keys: Mapping[str, str], axes: tuple[Axis, ...] = AXES) -> Parameters:
    """Build the record from upper-case keys and their values as written.

    Only a needed value rejects a frame. Another value that cannot be read counts as absent.

    Args:
        keys: some of `KEYS`, with their values.
        axes: controlled axes, whose values are needed.

    Raises:
        ParameterTextError: a needed value is not a finite number with a known unit.
        ParameterMissingError: `MAG` or `WD` is absent.
    """
    for needed in ("MAG", "WD"):
        if not keys.get(needed):
            raise ParameterMissingError(f"{needed} is missing; write a line {needed}=<value>")
    pixel_nm = _optional(keys, "PIXEL", NM_PER, "nm")
    return Parameters(
        magnification=parse_quantity(keys["MAG"], X_PER, None, "MAG"),
        wd_mm=parse_quantity(keys["WD"], MM_PER, "um", "WD"),
        brightness=_optional(keys, "BRIGHTNESS", PLAIN, None, needed=Axis.BRIGHTNESS in axes),
        contrast=_optional(keys, "CONTRAST", PLAIN, None, needed=Axis.CONTRAST in axes),
        hv_kv=_optional(keys, "HV", KV_PER, "v"),
        pixel_nm=pixel_nm if pixel_nm is not None and pixel_nm > 0 else None,
        sample=keys.get("SAMPLE") or None,
        stage_mm=_stage(keys.get("STAGE")),
        action_id=keys.get("ACTION") or None,
    )


def _optional(
    keys: Mapping[str, str], key: str, scale: dict[str, float], unit: str | None, *, needed: bool = False
) -> float | None:
    value = keys.get(key)
    if not value:
        return None
    try:
        return parse_quantity(value, scale, unit, key)
    except ParameterTextError:
        if needed:
            raise
        return None


def _stage(value: str | None) -> tuple[float, ...] | None:
    parts = value.split(",") if value else []
    if len(parts) not in (2, 3):
        return None
    try:
        return tuple(parse_quantity(part, MM_PER, "mm", "STAGE") for part in parts)
    except ParameterTextError:
        return None


def check_parameters(parameters: Parameters, axes: tuple[Axis, ...], limits: Limits) -> None:
    """Refuse parameters that the control machine cannot work with.

    Raises:
        ParameterMissingError: a controlled axis has no value.
        ParameterRangeError: the magnification is not positive, or a value lies outside its limits.
    """
    if not parameters.magnification > 0:
        raise ParameterRangeError(f"MAG={parameters.magnification:g} is not positive")
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
