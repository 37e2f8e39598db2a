"""The daemon of the crash bench: networks that cost nothing, and a control machine that really moves the knobs.

That it moves matters: an action that changes nothing could be applied twice, or never, without showing.
"""

from __future__ import annotations

import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semd.config import Config, load_config
from semd.daemon.process import run_daemon
from semd.errors import SemdError
from semd.evaluation.stand_in import stand_in_pipeline
from semd.pipeline import Pipeline

_FARTHEST = 0.3


def moving_pipeline(config: Config) -> Pipeline:
    """The stand-in pipeline, with a policy that goes somewhere else from every state."""
    return replace(stand_in_pipeline(config), policy=_wander)


def _wander(state: NDArray[np.float32]) -> NDArray[np.float32]:
    rng = np.random.default_rng(zlib.crc32(state.tobytes()))
    return rng.uniform(-_FARTHEST, _FARTHEST, 3).astype(np.float32)


def main(config_path: str) -> int:
    """Run the daemon on this configuration; the exit status is that of `semd run`."""
    try:
        config = load_config(Path(config_path))
        return run_daemon(config, source=moving_pipeline(config))
    except SemdError as error:
        print(error, file=sys.stderr)  # noqa: T201 - as the command line does
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
