"""The methods compared, by name, each with its constructor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from semd.errors import ConfigError, PeerError
from semd.evaluation.baselines.baseline_harness import Peer
from semd.evaluation.baselines.brent import Brent
from semd.evaluation.baselines.conventional import Conventional
from semd.evaluation.baselines.fibsem import Fibsem
from semd.evaluation.baselines.mapfost import Mapfost
from semd.evaluation.baselines.semd_method import Ours
from semd.evaluation.baselines.sharpness_metrics import gradient_metric, variance_metric
from semd.pipeline import Pipeline

OURS = "semd"


@dataclass(frozen=True, slots=True)
class Entrant:
    """A method in the comparison.

    Attributes:
        name: in tables, files and `--peers`.
        focus_only: True where it leaves brightness and contrast alone, and so starts with good ones.
        peer: the method; None where it cannot be made here.
        absent: why it cannot, None where it can.
    """

    name: str
    focus_only: bool
    peer: Peer | None
    absent: str | None = None


def enter(pipeline: Pipeline, only: Sequence[str] | None = None) -> list[Entrant]:
    """All methods, or those named; a method whose package is missing enters with the reason.

    Raises:
        ConfigError: no method has that name.
    """
    makers: dict[str, tuple[bool, Callable[[], Peer]]] = {
        "conventional-gradient": (True, lambda: Conventional(gradient_metric)),
        "conventional-variance": (True, lambda: Conventional(variance_metric)),
        "conventional-joint": (False, lambda: Conventional(variance_metric, exposure=True)),
        "brent": (True, Brent),
        "mapfost": (True, lambda: Mapfost(calibrated=False)),
        "mapfost-calibrated": (True, lambda: Mapfost(calibrated=True)),
        "fibsem": (True, lambda: Fibsem(wide=False)),
        "fibsem-wide": (True, lambda: Fibsem(wide=True)),
        OURS: (False, lambda: Ours(pipeline)),
    }
    unknown = [name for name in only or () if name not in makers]
    if unknown:
        raise ConfigError(f"no method is called {unknown[0]!r}, known are: {', '.join(makers)}")
    return [_entrant(name, *makers[name]) for name in makers if only is None or name in only]


def _entrant(name: str, focus_only: bool, make: Callable[[], Peer]) -> Entrant:
    try:
        return Entrant(name, focus_only, make())
    except PeerError as error:
        return Entrant(name, focus_only, None, error.message)
