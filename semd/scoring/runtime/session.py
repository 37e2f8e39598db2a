"""An exported model as the engine of a `Scorer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from semd.errors import ModelError
from semd.scoring.runtime.extra import import_onnxruntime

if TYPE_CHECKING:
    from torch import Tensor

INPUT = "image"
OUTPUT = "features"

# Each thread takes its share in small pieces, so that one on a busy core does not hold up the others.
_PIECES_PER_THREAD = "4"
# It would have the first maximum taken of integers, whose kernel is seven times as slow; the result is the same.
_HARMFUL_OPTIMISERS = ("QDQPropagationTransformer",)


class OnnxEngine:
    """Runs the network's convolutional part in ONNX Runtime, on the CPU."""

    def __init__(self, model: bytes, threads: int = 1) -> None:
        """Load an exported model.

        Args:
            model: contents of the file, verified by the caller.
            threads: threads of the convolutions; they sleep while there is nothing to do.

        Raises:
            ModelError: the extra `onnx` is missing, `threads` is below 1, or the bytes are no model of ours.
        """
        if threads < 1:
            raise ModelError(f"threads must be at least 1, not {threads}")
        runtime = import_onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads that wait for one on a busy core take the time from whoever keeps it busy, and it from them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.dynamic_block_base", _PIECES_PER_THREAD)
        options.log_severity_level = 3
        self._session = _open(runtime, model, options)
        ends = [entry.name for entry in (*self._session.get_inputs(), *self._session.get_outputs())]
        if ends != [INPUT, OUTPUT]:
            raise ModelError(f"the exported model leads from and to {ends}, not {[INPUT, OUTPUT]}: export it again")

    def extract(self, images: Tensor) -> Tensor:
        """Standardised frames, float32 (B, 1, H, W), to their features, float32 (B, features)."""
        features = self._session.run([OUTPUT], {INPUT: images.numpy()})[0]
        return torch.from_numpy(features)


def _open(runtime: Any, model: bytes, options: Any) -> Any:
    try:
        return runtime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(_HARMFUL_OPTIMISERS)
        )
    # What it raises has no common base but Exception.
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"ONNX Runtime {runtime.__version__} cannot run the exported model: {reason}") from error
