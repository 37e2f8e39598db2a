"""Ray, an optional extra: imported on demand, with a cluster of this machine where none is named."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from semd.errors import ConfigError, TrainingError

# States and figures are small; Ray would otherwise set a third of the memory aside.
_OBJECT_STORE_BYTES = 128 * 2**20
# Ray gives its own processes half a minute to start; on a busy machine that may take another try.
_TRIES = 3
_NO_REPORT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Nothing is reported to Ray's makers, and accelerators stay visible where none are reserved."""
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Whoever reaches a cluster's ports may run code on it; so, on Linux as elsewhere, our own listens on 127.0.0.1."""
_QUIET = {"log_to_driver": False, "logging_level": "ERROR"}


def load_ray(environment: Mapping[str, str]) -> Any:
    """Import Ray.

    Args:
        environment: what Ray reads as it is imported and hands on to its processes; what is set already stays.

    Raises:
        TrainingError: it is not installed, or does not work here.
    """
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise TrainingError(f"{error.name} is not installed; pip install 'semd[ray]'") from error
    except ImportError as error:
        raise TrainingError(f"ray cannot be imported: {error}") from error


@contextlib.contextmanager
def cluster(workers: int, address: str | None = None) -> Iterator[Any]:
    """Ray, connected; what was started here is stopped at the end.

    A connection that this process has already is used, and left as it is.

    Args:
        workers: processes of the cluster that is started on this machine where no address is given.
        address: a running cluster's, `auto` or HOST:PORT; semd must be installed on all its machines.

    Raises:
        ConfigError: fewer than one worker.
        TrainingError: Ray is not installed, there is no such cluster, or it cannot be started.
    """
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, not {workers}")
    ray = load_ray(_NO_REPORT | (_LOOPBACK if address is None else {}))
    if ray.is_initialized():
        yield ray
        return
    if address is None:
        _start(ray, workers)
    else:
        try:
            ray.init(address=address, **_QUIET)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise TrainingError(f"no Ray cluster at {address}: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _start(ray: Any, workers: int) -> None:
    for left in reversed(range(_TRIES)):
        try:
            ray.init(
                address="local",
                num_cpus=workers,
                num_gpus=0,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                **_QUIET,
            )
        except Exception as error:
            # Ray has no class of its own for a start that took too long.
            ray.shutdown()
            if not left:
                raise TrainingError(f"Ray cannot be started on this machine: {error}") from error
        else:
            return
