"""A custom instrument profile: a small TOML file of its own, apart from the configuration it keeps in check."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from semd.domain.axes import Axis
from semd.domain.limits import AxisLimits
from semd.errors import ConfigError
from semd.protocol.instrument_profile import InstrumentProfile

MAX_PROFILE_BYTES = 1 << 16
_MOST_NAMED = 4
"""Of the things wrong with one file: as many as it has keys."""


Interval = Annotated[tuple[float, float], Field(description="[low, high]")]
KEYS = {Axis.WD: "wd_mm", Axis.BRIGHTNESS: "brightness", Axis.CONTRAST: "contrast"}
"""What each knob is called in files."""


class KnobBounds(BaseModel):
    """[low, high] of each knob: mm, and the instrument's own scale."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    wd_mm: Interval
    brightness: Interval
    contrast: Interval

    @model_validator(mode="after")
    def _low_is_below_high(self) -> KnobBounds:
        for key in KEYS.values():
            low, high = getattr(self, key)
            if not low < high:
                raise ValueError(f"{key} = [{low:g}, {high:g}]: the first must be below the second")
        if self.wd_mm[0] < 0:
            raise ValueError(f"wd_mm = [{self.wd_mm[0]:g}, ...]: a working distance is not negative")
        return self

    @property
    def bounds(self) -> dict[Axis, AxisLimits]:
        """The same by axis."""
        return {axis: AxisLimits(*getattr(self, key)) for axis, key in KEYS.items()}


class _ProfileFile(KnobBounds):
    name: str = Field(min_length=1, max_length=64)


def read_toml(data: bytes) -> dict[str, Any]:
    """Parse a TOML file's bytes.

    Raises:
        ValueError: not UTF-8, not TOML, a number of thousands of digits, or brackets nested without end.
    """
    try:
        return tomllib.loads(data.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_profile(path: Path) -> InstrumentProfile:
    """Read a custom profile.

    Raises:
        ConfigError: the file is missing, too large, not TOML, or says something that cannot be.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PROFILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: the instrument profile cannot be read: {error.strerror}") from error
    if len(data) > MAX_PROFILE_BYTES:
        raise ConfigError(f"{path}: more than {MAX_PROFILE_BYTES} bytes; not an instrument profile")
    try:
        found = _ProfileFile.model_validate(read_toml(data))
    except ValidationError as error:
        wrong = "; ".join(_explain(detail) for detail in error.errors()[:_MOST_NAMED])
        raise ConfigError(f"{path}: {wrong}") from error
    except ValueError as error:  # of which pydantic's is one
        raise ConfigError(f"{path}: not TOML: {error}") from error
    return InstrumentProfile(found.name, found.bounds)


def _explain(detail: ErrorDetails) -> str:
    where = ".".join(str(part) for part in detail["loc"])
    message = detail["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
