"""A trained network as a file: its weights, and its form in the file's header."""

from __future__ import annotations

import json
from dataclasses import asdict

from semd.errors import ModelError
from semd.scoring.network import Architecture, ScoringNetwork
from semd.scoring.weights import load_weights, read_metadata, weights_to_bytes

_KEY = "architecture"


def network_to_bytes(network: ScoringNetwork) -> bytes:
    """Serialise a network in half precision."""
    return weights_to_bytes(network.state_dict(), metadata={_KEY: json.dumps(asdict(network.architecture))})


def network_from_bytes(stored: bytes) -> ScoringNetwork:
    """The network that was serialised, ready for inference.

    Raises:
        ModelError: the bytes are no scoring network's, or damaged.
    """
    header = read_metadata(stored)
    if _KEY not in header:
        raise ModelError("the weights do not say which form of the scoring network they belong to; train them anew")
    try:
        architecture = Architecture(**json.loads(header[_KEY]))
        network = ScoringNetwork(architecture)
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ModelError(f"the weights name a scoring network that semd does not know: {error}") from error
    load_weights(network, stored)
    return network.eval()
