"""Reading of one file of a frame, which may be a link, held by its writer, or unreadable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from semd.errors import FileLinkError, FileUnreadableError, FrameError
from semd.protocol.identity import digest


@dataclass(frozen=True, slots=True)
class PairFile:
    """One file of a frame as far as it could be read.

    Attributes:
        data: its bytes; empty where there is no file or an error.
        error: why it cannot be read, for good.
    """

    data: bytes = b""
    error: FrameError | None = None

    @property
    def digest(self) -> str | None:
        """SHA-256 of what was read, in hex; None when nothing could be."""
        return digest(self.data) if self.error is None else None


def read_pair_file(path: Path | None, read: Callable[[Path], bytes], rest_s: float, unreadable_s: float) -> PairFile:
    """Read a file, and say what is wrong with one that will not be read by waiting.

    Args:
        path: the file; None where the frame has none.
        read: reads it.
        rest_s: for how long it has not changed.
        unreadable_s: after so long a file that cannot be read is given up.

    Raises:
        OSError: it cannot be read at present.
    """
    if path is None:
        return PairFile()
    try:
        return PairFile(read(path))
    except FileLinkError as error:
        return PairFile(error=error)
    except FileNotFoundError:
        raise  # gone, and so is its frame: nothing to give up
    except OSError as error:
        if rest_s < unreadable_s:
            raise
        return PairFile(
            error=FileUnreadableError(
                f"{path.name!r} could not be read for {unreadable_s:g} s: {error.strerror or error}; give the "
                "service's account the right to, or end the program that holds it"
            )
        )
