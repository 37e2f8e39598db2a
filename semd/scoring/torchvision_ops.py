"""Import torchvision beside a CPU-only torch.

The torchvision wheel from the main package index is linked against CUDA. Beside a CPU torch its operator
library does not load, and `import torchvision` then stops because the operator `torchvision::nms` does not
exist. semd uses none of those operators, so declaring their schemas is enough. Where the library does load,
nothing is declared.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from types import ModuleType

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# The declarations vanish with the object that made them.
_declared: list[torch.library.Library] = []


def import_torchvision_models() -> ModuleType:
    """Return `torchvision.models`, declaring the missing operators first where they are missing.

    Raises:
        ImportError: torchvision is not installed, or fails for another reason.
    """
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise ImportError(f"torchvision does not import: {error}") from error
    # What the failed import left half made must go, or it would be taken for the module.
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]
    if not _declared:
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for schema in _SCHEMAS:
            library.define(schema)  # type: ignore[no-untyped-call]
        _declared.append(library)
    return importlib.import_module("torchvision.models")
