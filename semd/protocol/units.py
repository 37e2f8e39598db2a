"""Numbers with units as instruments write them: `9.5 mm`, `2 K X`, `15000 Volt`, `40%`."""

from __future__ import annotations

import math
import re

from semd.errors import ParameterTextError

# ASCII only: float() would also take `1_000`, `infinity` and digits of other scripts.
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*)", re.ASCII | re.DOTALL)
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)\b.*", re.IGNORECASE | re.ASCII)

MM_PER = {"nm": 1e-6, "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "mm": 1.0, "m": 1e3}
NM_PER = {"nm": 1.0, "um": 1e3, "µm": 1e3, "μm": 1e3, "mm": 1e6, "m": 1e9}
KV_PER = {"v": 1e-3, "volt": 1e-3, "kv": 1.0}
X_PER = {"x": 1.0, "kx": 1e3, "k": 1e3}
PLAIN = {"%": 1.0}


def parse_quantity(text: str, scale: dict[str, float], default_unit: str | None, key: str) -> float:
    """Parse a number with an optional unit into the unit that `scale` maps to.

    Args:
        text: the value as written, for example `7920.5 um`.
        scale: accepted unit words (lower case, spaces removed) and their factors.
        default_unit: the unit when none is written; None means factor 1.
        key: the parameter's name, for the error message.

    Returns:
        The value times the unit's factor; always finite.

    Raises:
        ParameterTextError: not a number, not finite, or an unknown unit.
    """
    stripped = text.strip()
    if _NOT_FINITE.fullmatch(stripped):
        raise ParameterTextError(f"{key}={stripped!r} is not finite; a finite number is needed")
    match = _QUANTITY.fullmatch(stripped)
    if match is None:
        raise ParameterTextError(f"{key}={stripped[:40]!r} is not a number")
    number, unit = float(match[1]), re.sub(r"\s+", "", match[2]).lower()
    if unit and unit not in scale:
        raise ParameterTextError(f"{key}={stripped[:40]!r}: unknown unit {match[2].strip()[:16]!r}")
    factor = scale[unit] if unit else (scale[default_unit] if default_unit else 1.0)
    value = number * factor
    if not math.isfinite(value):
        raise ParameterTextError(f"{key}={stripped[:40]!r} is not finite; a finite number is needed")
    return value
