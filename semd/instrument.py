"""A custom instrument profile: a small TOML file of its own, apart from the configuration it keeps in check."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from semd.domain.axes import Axis
from semd.domain.instrument import InstrumentProfile
from semd.domain.limits import AxisLimits
from semd.errors import ConfigError

MAX_PROFILE_BYTES = 1 << 16


class _ProfileFile(BaseModel):
    """`name`, and [low, high] of each knob: mm, and the instrument's own scale."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=64)
    wd_mm: tuple[float, float]
    brightness: tuple[float, float]
    contrast: tuple[float, float]

    @model_validator(mode="after")
    def _low_is_below_high(self) -> _ProfileFile:
        for key in ("wd_mm", "brightness", "contrast"):
            low, high = getattr(self, key)
            if not low < high:
                raise ValueError(f"{key} = [{low:g}, {high:g}]: the first must be below the second")
        if self.wd_mm[0] < 0:
            raise ValueError(f"wd_mm = [{self.wd_mm[0]:g}, ...]: a working distance is not negative")
        return self


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
        found = _ProfileFile.model_validate(tomllib.loads(data.decode("utf-8")))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{path}: {f'{where}: ' if where else ''}{message}") from error
    return InstrumentProfile(
        found.name,
        {
            Axis.WD: AxisLimits(*found.wd_mm),
            Axis.BRIGHTNESS: AxisLimits(*found.brightness),
            Axis.CONTRAST: AxisLimits(*found.contrast),
        },
    )
