"""The id of an action: a function of the frame and the model (protocol, section 2)."""

from __future__ import annotations

import hashlib


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def unique_stem(stem: str, seq: int) -> str:
    """The stem under which a pair that is always called the same goes to the archive (protocol, section 1).

    It names a frame where the stem and the bytes do not: when the very same pair was saved again after the first
    had been taken away, its id is made of this.
    """
    return f"{seq:08d}~{stem}"


def action_id(stem: str, image_digest: str, text_digest: str, model_digest: str) -> str:
    """Return 32 hex digits over the frame's stem, both files' digests and the model's.

    The digests have a fixed length, so the fields cannot run into one another.
    """
    data = "\n".join((image_digest, text_digest, model_digest, stem)).encode("utf-8", "surrogateescape")
    return hashlib.sha256(data).hexdigest()[:32]
