"""Plan of a sweep: every combination of the settings' values and the seeds, a run folder each."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from semd.errors import ConfigError
from semd.training.control.control_settings import ControlTrainingConfig

_ELSEWHERE = {"seed": "--seeds", "max_frames": "--frames"}
_NOT_SWEPT = ("threads", "weights", "aim", "records_share", *_ELSEWHERE)


@dataclass(frozen=True, slots=True)
class Trial:
    """One training of a sweep.

    Attributes:
        name: of its run folder.
        swept: the values that tell it from the others, the seed among them.
        config: all settings.
    """

    name: str
    swept: dict[str, Any]
    config: ControlTrainingConfig


def plan_sweep(base: ControlTrainingConfig, seeds: str, settings: Sequence[str]) -> tuple[Trial, ...]:
    """Every combination, in the order given.

    Args:
        base: what all have in common.
        seeds: comma separated whole numbers.
        settings: `NAME=VALUE,VALUE...`, names as in `ControlTrainingConfig`.

    Raises:
        ConfigError: a name or value is not one, or comes twice.
    """
    hints = get_type_hints(ControlTrainingConfig)
    axes: dict[str, list[Any]] = {}
    for setting in settings:
        name, separator, values = setting.partition("=")
        if not separator:
            raise ConfigError(f"--set {setting!r}: write NAME=VALUE,VALUE...")
        if name in _ELSEWHERE:
            raise ConfigError(f"--set {setting!r}: {name} is set by {_ELSEWHERE[name]}")
        known = [field.name for field in fields(ControlTrainingConfig) if field.name not in _NOT_SWEPT]
        if name not in known:
            raise ConfigError(f"--set {setting!r}: there is no setting {name!r} to sweep; there are {', '.join(known)}")
        if name in axes:
            raise ConfigError(f"--set {setting!r}: {name} is given twice")
        axes[name] = _values(f"--set {setting!r}", values, hints[name])
    axes["seed"] = _values(f"--seeds {seeds!r}", seeds, int)
    trials = []
    for chosen in itertools.product(*axes.values()):
        swept = dict(zip(axes, chosen, strict=True))
        folder = "_".join(f"{name}={value}" for name, value in swept.items())
        trials.append(Trial(folder, swept, replace(base, **swept)))
    return tuple(trials)


def _values(option: str, text: str, kind: Any) -> list[Any]:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    try:
        values = [adapter.validate_python(each.strip()) for each in text.split(",")]
    except ValidationError as error:
        raise ConfigError(f"{option}: {error.errors()[0]['msg']}") from error
    if len(set(values)) < len(values):
        raise ConfigError(f"{option}: a value comes twice")
    return values
