"""The id of an action: a function of the frame and the model (protocol, section 2)."""

from __future__ import annotations

import hashlib


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def unique_stem(stem: str, seq: int) -> str:
    """Archive stem of a pair in layout `single`, whose own stem is always the same (protocol, section 1).

    It identifies a frame where stem and bytes do not: when the same pair is saved again after the first was archived,
    the action's id is made of this stem.
    """
    return f"{seq:08d}~{stem}"


def action_id(stem: str, image_digest: str, text_digest: str, model_digest: str) -> str:
    """Return 32 hex digits over the frame's stem, both files' digests and the model's.

    The digests have a fixed length, so the fields cannot run into one another.
    """
    data = "\n".join((image_digest, text_digest, model_digest, stem)).encode("utf-8", "surrogateescape")
    return hashlib.sha256(data).hexdigest()[:32]
