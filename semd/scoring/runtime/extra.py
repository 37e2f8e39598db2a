"""The optional packages behind the exported runtimes, imported when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from semd.errors import ModelError


def import_onnx() -> Any:
    """The package `onnx`, which writes models.

    Raises:
        ModelError: the extra is not installed.
    """
    return _import("onnx")


def import_onnxruntime() -> Any:
    """The package `onnxruntime`, which runs models.

    Raises:
        ModelError: the extra is not installed.
    """
    return _import("onnxruntime")


def import_quantization() -> Any:
    """The package `onnxruntime.quantization`, which turns fp32 models into int8 ones.

    Raises:
        ModelError: the extra is not installed.
    """
    _import("onnx")
    return _import("onnxruntime.quantization")


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(
            f"the exported runtimes need the package {name.split('.', maxsplit=1)[0]}: pip install 'semd[onnx]', "
            'or set [scoring] runtime = "torch"'
        ) from error
