"""The actor's state, equations (2) and (3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from semd.domain.axes import AXES, Axis, Parameters
from semd.domain.limits import Window
from semd.domain.observation import Measurement

FEATURES_PER_FRAME = 10

States = NDArray[np.float32]
"""States of B microscopes, float32 (B, 10 N)."""

Actions = NDArray[np.float32]
"""Steps of the three axes for B microscopes on the networks' scale, float32 (B, 3)."""

BoolArray = NDArray[np.bool_]
"""One truth value for each of B microscopes, bool (B,)."""


def frame_features(
    parameters: Parameters,
    measurement: Measurement,
    previous: Parameters | None,
    window: Window,
    rho: float,
    axes: tuple[Axis, ...] = AXES,
) -> list[float]:
    """Equation (2): the ten features of one frame, each about -1..1.

    score / 10, AVG, GRD, VAR, then WD, BRT and CNT in the run's window, then the step that led here in each
    of them, as a fraction of the bound rho * (U - L) of (5). A parameter that is not controlled is 0, and so
    is the step of a run's first frame.
    """
    features = [
        measurement.score / 10.0,
        measurement.features.avg_normalised,
        measurement.features.grd_normalised,
        measurement.features.var_normalised,
    ]
    now = parameters.controlled(axes)
    before = previous.controlled(axes) if previous is not None else now
    features += [window.normalise(axis, now[axis]) if axis in now else 0.0 for axis in AXES]
    features += [
        (now[axis] - before[axis]) / (2.0 * rho * window.half_width[axis]) if axis in now and axis in before else 0.0
        for axis in AXES
    ]
    return features


def stack_state(frames: Sequence[Sequence[float]], n_frames: int) -> NDArray[np.float32]:
    """Equation (3): the features of the last N frames, oldest first, shape (10 N,), float32.

    With fewer than N frames the run's first frame stands, at rest, in the places before it: its steps are 0
    by (2), so the state says that nothing was moved yet.

    Raises:
        ValueError: no frame at all.
    """
    if not frames:
        raise ValueError("a state needs at least one frame")
    recent = list(frames[-n_frames:])
    at_rest = [*recent[0][:7], 0.0, 0.0, 0.0]
    return np.asarray([at_rest] * (n_frames - len(recent)) + recent, dtype=np.float32).reshape(-1)
