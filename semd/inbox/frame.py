"""Results of the inbox: a frame that can be answered, or one that cannot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semd.domain.axes import Parameters
from semd.errors import FrameError


@dataclass(frozen=True, slots=True)
class LoadedFrame:
    """A frame whose parameters are good.

    Attributes:
        stem: the frame's stem.
        image: grey, uint8 (480, 640), info bar cropped; None when unusable.
        image_error: why the image is unusable, or None.
        parameters: as read.
        image_digest, text_digest: SHA-256 of the files in hex; that of nothing where there is no text file.
        image_path, text_path: the files; `text_path` is None where the image carries the parameters.
    """

    stem: str
    image: NDArray[np.uint8] | None
    image_error: FrameError | None
    parameters: Parameters
    image_digest: str
    text_digest: str
    image_path: Path
    text_path: Path | None


@dataclass(frozen=True, slots=True)
class RejectedFrame:
    """A frame that cannot be answered: parameters unreadable, or half of it never came.

    Attributes:
        stem: the frame's stem.
        image_path, text_path: the files that are there.
        image_digest, text_digest: their SHA-256 in hex.
        error: why.
    """

    stem: str
    image_path: Path | None
    text_path: Path | None
    image_digest: str | None
    text_digest: str | None
    error: FrameError

    @property
    def paths(self) -> list[Path]:
        """The files that are there."""
        return [path for path in (self.image_path, self.text_path) if path is not None]
