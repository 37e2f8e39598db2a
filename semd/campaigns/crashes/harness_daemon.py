"""Daemon of the crash harness: a constant score, and a control machine that moves the settings.

The moves make faults visible: an action that changes nothing could be applied twice, or never, without effect.
"""

from __future__ import annotations

import sys
import zlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from semd.campaigns.constant_daemon import constant_pipeline, main
from semd.config import Config
from semd.pipeline import Pipeline

_FARTHEST = 0.3


def moving_pipeline(config: Config) -> Pipeline:
    """Make the stand-in pipeline with a policy that moves differently from every state."""
    return replace(constant_pipeline(config), policy=_wander)


def _wander(state: NDArray[np.float32]) -> NDArray[np.float32]:
    rng = np.random.default_rng(zlib.crc32(state.tobytes()))
    return rng.uniform(-_FARTHEST, _FARTHEST, 3).astype(np.float32)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], moving_pipeline))
