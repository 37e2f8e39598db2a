"""A daemon whose networks are stand-ins that cost nothing; everything around them is the real thing.

For soaks and crash tests, which are about files, ledger and link. No configuration and no other command leads here:
`python -m semd.campaigns.constant_daemon CONFIG` is the only way in.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semd.config import Config, load_config
from semd.daemon.daemon_process import run_daemon
from semd.domain.frame_score import FrameScore
from semd.errors import SemdError
from semd.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_SCORE = 5.0
_N_FRAMES, _RHO = 5, 0.2
DIGEST = "0" * 64
"""Stands where the models' digest does, so that nobody takes such an action for a real one."""


class _Middling:
    """To it every frame is a five."""

    def judge(self, image: NDArray[np.uint8], magnification: float) -> FrameScore:  # noqa: ARG002
        return FrameScore(_SCORE)


def _still(state: NDArray[np.float32]) -> NDArray[np.float32]:  # noqa: ARG001
    return np.zeros(3, np.float32)


def stand_in_pipeline(config: Config) -> Pipeline:
    """The pipeline with a scoring machine that says five and a control machine that stays where it is."""
    return Pipeline(_Middling(), _still, config.rules(_N_FRAMES, _RHO), DIGEST)


def main(config_path: str, source: Callable[[Config], Pipeline] = stand_in_pipeline) -> int:
    """Run the daemon on this configuration with such a pipeline; the exit status is that of `semd run`."""
    try:
        config = load_config(Path(config_path))
        return run_daemon(config, source=source(config))
    except SemdError as error:
        print(error, file=sys.stderr)  # noqa: T201 - as the command line does
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
