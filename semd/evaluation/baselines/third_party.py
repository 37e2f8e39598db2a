"""Import of the packages of the optional extra `peers`, with readable errors."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator
from types import ModuleType

from semd.errors import BaselineError


def load_package(name: str) -> ModuleType:
    """Import a module of a third-party package.

    Raises:
        BaselineError: the package is not installed or cannot be imported.
    """
    try:
        # Some packages print on standard output, which is reserved for our JSON; their deprecation warnings are noise.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise BaselineError(f"{error.name} is not installed; pip install 'semd[peers]'") from error
    except Exception as error:
        raise BaselineError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def silenced(logger_name: str) -> Iterator[None]:
    """Silence a package's log; its failures are counted in the table."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
