"""Daemon with constant stand-ins for the networks and everything else as in production.

For soak and crash tests, which test files, ledger and link. No configuration and no other command starts it; run
`python -m semd.campaigns.constant_daemon CONFIG`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from semd.config import Config, load_config
from semd.daemon.daemon_process import run_daemon
from semd.errors import SemdError
from semd.pipeline import Pipeline
from semd.testing import NO_MODELS_DIGEST, ConstantScorer, still_actor

if TYPE_CHECKING:
    from collections.abc import Callable

_N_FRAMES, _RHO = 5, 0.2


def constant_pipeline(config: Config) -> Pipeline:
    """Make a pipeline with a constant score and a control machine that never moves."""
    return Pipeline(ConstantScorer(), still_actor, config.rules(_N_FRAMES, _RHO), NO_MODELS_DIGEST)


def main(config_path: str, source: Callable[[Config], Pipeline] = constant_pipeline) -> int:
    """Run the daemon with the pipeline that `source` makes; return the exit status of `semd run`."""
    try:
        config = load_config(Path(config_path))
        return run_daemon(config, source=source(config))
    except SemdError as error:
        print(error, file=sys.stderr)  # noqa: T201 - as the command line does
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
