"""Worker process of `semd evaluate latency`: times one runtime of the scorer on request.

Arguments: runtime, threads, models folder, file of frames (uint8 (N, H, W), .npy). Each answer is a JSON object on one
line of standard output. The first holds the memory or the reason why the runtime cannot run. Each line of standard
input is a number of frames, and its answer holds their times. The process ends with its input.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from semd.errors import ModelError, SemdError
from semd.model_store import Runtime, load_model
from semd.scoring.preprocess import standardise
from semd.scoring.runtime.scorer_loading import load_scorer
from semd.scoring.scorer import Scorer
from semd.scoring.stored import network_from_bytes
from semd.service.memory import peak_memory_mb, resident_memory_mb

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from semd.scoring.network import ScoringNetwork

KINDS = ("torch, eager", "torch, channels last", "exported fp32", "exported int8")
"""Runtimes; the others are compared with the first."""
MAGNIFICATION = 2000.0
_RUNTIMES: dict[str, Runtime] = {KINDS[1]: "torch", KINDS[2]: "fp32", KINDS[3]: "int8"}
_WARM_UP_FRAMES = 8


class _Eager:
    """Torch with its default memory format for weights and images."""

    def __init__(self, network: ScoringNetwork) -> None:
        self._network = network

    def extract(self, images: Tensor) -> Tensor:
        """Compute the features, float32 (B, features), of standardised frames, float32 (B, 1, H, W)."""
        # With one channel both memory formats coincide; a view of the flat image has the default strides.
        return self._network.extract(images.flatten().view(images.shape))


def make_scorer(kind: str, directory: Path, threads: int) -> Scorer:
    """Load the scorer of a runtime.

    Raises:
        ModelError: the runtime is unknown or cannot be loaded.
    """
    if kind in _RUNTIMES:
        return load_scorer(directory, _RUNTIMES[kind], threads)
    if kind != KINDS[0]:
        raise ModelError(f"{kind!r} is not one of {', '.join(KINDS)}")
    torch.set_num_threads(threads)
    network = network_from_bytes(load_model(directory, "scorer").data)
    scorer = Scorer(network, _Eager(network))
    # The scorer has changed the memory format of the network; change it back.
    # The type stubs of torch lack this form of `Module.to`.
    cast("Any", network).to(memory_format=torch.contiguous_format)
    return scorer


def main(kind: str, threads: str, directory: str, frames_path: str) -> None:
    """Load, report, and time frames until the input ends."""
    # Ctrl+C is handled by the parent process, which ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        scorer = make_scorer(kind, Path(directory), int(threads))
    except SemdError as error:
        _answer({"missing": error.message})
        return
    images: NDArray[np.uint8] = np.load(frames_path, allow_pickle=False)
    prepared = [torch.from_numpy(standardise(image))[None, None] for image in images]
    scorer.warm_up()
    for image in images[:_WARM_UP_FRAMES]:
        scorer.judge(image, MAGNIFICATION)
    _answer({"resident_mb": resident_memory_mb(), "peak_mb": peak_memory_mb()})
    for line in sys.stdin:
        frame_ms, bare_ms = [], []
        for number in range(int(line)):
            place = number % len(images)
            frame_ms.append(_timed_ms(partial(scorer.judge, images[place], MAGNIFICATION)))
            with torch.inference_mode():
                bare_ms.append(_timed_ms(partial(scorer.engine.extract, prepared[place])))
        _answer({"frame_ms": frame_ms, "bare_ms": bare_ms})


def _timed_ms(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return (time.perf_counter() - begun) * 1e3


def _answer(values: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
