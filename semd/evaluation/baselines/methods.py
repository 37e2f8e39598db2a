"""Registry of the compared methods: name, constructor, and whether the method sets the focus only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from semd.errors import BaselineError, ConfigError
from semd.evaluation.baselines.baseline_harness import AutofocusMethod
from semd.evaluation.baselines.brent import Brent
from semd.evaluation.baselines.conventional import Conventional
from semd.evaluation.baselines.fibsem import Fibsem
from semd.evaluation.baselines.mapfost import Mapfost
from semd.evaluation.baselines.semd_method import SemdMethod
from semd.evaluation.baselines.sharpness_metrics import gradient_metric, variance_metric
from semd.pipeline import Pipeline

OURS = "semd"


@dataclass(frozen=True, slots=True)
class ComparedMethod:
    """A method in the comparison.

    Attributes:
        name: name in tables, files and `--peers`.
        focus_only: True if the method does not set brightness and contrast, which then start at the optimum.
        autofocus: the method; None if it is not available.
        absent: reason why the method is not available, otherwise None.
    """

    name: str
    focus_only: bool
    autofocus: AutofocusMethod | None
    absent: str | None = None


def make_methods(pipeline: Pipeline, only: Sequence[str] | None = None) -> list[ComparedMethod]:
    """Make all methods, or the named ones; a method whose package is missing carries the reason.

    Raises:
        ConfigError: a name is unknown.
    """
    makers: dict[str, tuple[bool, Callable[[], AutofocusMethod]]] = {
        "conventional-gradient": (True, lambda: Conventional(gradient_metric)),
        "conventional-variance": (True, lambda: Conventional(variance_metric)),
        "conventional-joint": (False, lambda: Conventional(variance_metric, exposure=True)),
        "brent": (True, Brent),
        "mapfost": (True, lambda: Mapfost(calibrated=False)),
        "mapfost-calibrated": (True, lambda: Mapfost(calibrated=True)),
        "fibsem": (True, lambda: Fibsem(wide=False)),
        "fibsem-wide": (True, lambda: Fibsem(wide=True)),
        OURS: (False, lambda: SemdMethod(pipeline)),
    }
    unknown = [name for name in only or () if name not in makers]
    if unknown:
        raise ConfigError(f"unknown method {unknown[0]!r}; known methods: {', '.join(makers)}")
    return [_compared_method(name, *makers[name]) for name in makers if only is None or name in only]


def _compared_method(name: str, focus_only: bool, make: Callable[[], AutofocusMethod]) -> ComparedMethod:
    try:
        return ComparedMethod(name, focus_only, make())
    except BaselineError as error:
        return ComparedMethod(name, focus_only, None, error.message)
