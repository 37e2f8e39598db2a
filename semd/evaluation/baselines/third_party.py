"""Packages of the optional extra `peers`: loaded when asked for, and what is wrong with them said in words."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator
from types import ModuleType

from semd.errors import PeerError


def load_package(name: str) -> ModuleType:
    """Import a module of a third party's package.

    Raises:
        PeerError: it is not installed, or does not work here.
    """
    try:
        # Some greet on standard output, where only our JSON belongs; what they will have to mend is their affair.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise PeerError(f"{error.name} is not installed; pip install 'semd[peers]'") from error
    except Exception as error:
        raise PeerError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def silenced(logger_name: str) -> Iterator[None]:
    """Keep a package's log off the terminal; its errors are counted in the table."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
