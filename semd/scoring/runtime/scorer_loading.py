"""Loading of the configured scorer: torch itself, or an exported model for its convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from semd.model_store import load_model, load_runtime
from semd.scoring.runtime.session import OnnxEngine
from semd.scoring.scorer import Scorer
from semd.scoring.stored import network_from_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from semd.model_store import Runtime


def load_scorer(directory: Path, runtime: Runtime = "torch", threads: int = 1) -> Scorer:
    """Load the verified scorer of a models folder.

    Args:
        directory: folder with the manifest.
        runtime: what runs the convolutions.
        threads: threads of the convolutions; more than one only on cores nobody else uses.

    Raises:
        ModelError: a file is missing or changed, the exported model was made of other weights, the extra `onnx` is
            not installed, or `threads` is below 1.
    """
    weights = load_model(directory, "scorer").data
    if runtime == "torch":
        return Scorer.load(weights, threads)
    engine = OnnxEngine(load_runtime(directory, runtime).data, threads)
    # Only the small heads are left to torch; handing them to several threads costs more than computing them.
    torch.set_num_threads(1)
    network = network_from_bytes(weights)
    # The engine has these weights already.
    network.backbone = nn.Identity()
    return Scorer(network, engine)
