"""Loading of a frame: its two files are read once and become digests, parameters and an image."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from semd.config import Config
from semd.domain.axes import Axis
from semd.domain.limits import Limits
from semd.errors import FileLinkError, FrameError, ImageFormatError, ParameterTextError
from semd.inbox.dialects import read_parameters
from semd.inbox.frame import LoadedFrame
from semd.inbox.image import FrameSize, decode_scaled
from semd.protocol.identity import digest
from semd.protocol.pairing import Dialect
from semd.protocol.parameter_text import check_parameters

_MAX_TEXT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FrameLoader:
    """Reads frames of one dialect.

    Attributes:
        dialect: whose parameters.
        size: of a frame.
        axes: controlled axes, whose values are needed.
        limits: what is accepted as a parameter.
    """

    dialect: Dialect
    size: FrameSize
    axes: tuple[Axis, ...]
    limits: Limits

    @classmethod
    def of(cls, config: Config) -> FrameLoader:
        """Make the loader that a configuration describes."""
        watch = config.watch
        rules = config.rules(n_frames=1, rho=1.0)
        size = FrameSize(watch.width_px, watch.height_px, watch.info_bar_px, int(watch.max_image_mb * 1e6))
        return cls(watch.dialect, size, rules.axes, rules.limits)

    def load(self, stem: str, image_path: Path, text_path: Path | None) -> LoadedFrame:
        """Read a frame's files and build the frame.

        An unusable image is no error here: the frame is answered all the same, with HOLD.

        Raises:
            FrameError: the parameters cannot be used.
            OSError: a file cannot be read.
        """
        image, text = self.read(image_path, text_path, follow_links=True)
        return self.build(stem, image_path, text_path, image, text)

    def read(
        self, image_path: Path | None, text_path: Path | None, *, follow_links: bool = False
    ) -> tuple[bytes, bytes]:
        """Read the existing files, each up to one byte beyond the largest size that `build` accepts, to bound memory.

        Raises:
            FileLinkError: a file is a link, and links are not followed.
            OSError: a file cannot be read.
        """
        image = self.read_image(image_path, follow_links=follow_links) if image_path is not None else b""
        text = self.read_text(text_path, follow_links=follow_links) if text_path is not None else b""
        return image, text

    def read_image(self, path: Path, *, follow_links: bool = False) -> bytes:
        """Read an image file; see `read`."""
        return _read_at_most(path, self.size.max_bytes + 1, follow_links=follow_links)

    def read_text(self, path: Path, *, follow_links: bool = False) -> bytes:
        """Read a parameter file; see `read`."""
        return _read_at_most(path, _MAX_TEXT_BYTES + 1, follow_links=follow_links)

    def build(
        self,
        stem: str,
        image_path: Path,
        text_path: Path | None,
        image: bytes,
        text: bytes,
        image_error: FrameError | None = None,
    ) -> LoadedFrame:
        """Build a frame from its files' bytes; see `load`. With an `image_error` the image is not decoded."""
        if not stem.isprintable() or any("\udc80" <= letter <= "\udcff" for letter in stem):
            raise ImageFormatError(f"the file name {stem!r} holds characters that cannot stand in an action")
        if len(text) > _MAX_TEXT_BYTES:
            raise ParameterTextError(f"the parameter text has more than {_MAX_TEXT_BYTES} bytes")
        parameters = read_parameters(self.dialect, text, image, self.axes)
        check_parameters(parameters, self.axes, self.limits)
        picture, error = None, image_error
        if error is None:
            try:
                picture, scale = decode_scaled(image, image_path.suffix.lower(), self.size)
                if parameters.pixel_nm is not None:
                    # It is written for the file's pixels; everything behind this reckons in the frame's.
                    parameters = replace(parameters, pixel_nm=parameters.pixel_nm * scale)
            except FrameError as found:
                error = found
        return LoadedFrame(
            stem=stem,
            image=picture,
            image_error=error,
            parameters=parameters,
            image_digest=digest(image),
            text_digest=digest(text),
            image_path=image_path,
            text_path=text_path,
        )


def _read_at_most(path: Path, n_bytes: int, *, follow_links: bool) -> bytes:
    """Read a regular file. Its kind is asked of the open file, for the name may mean another one a moment later."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    if not follow_links:
        flags |= getattr(os, "O_NOFOLLOW", 0)
        if path.is_symlink():  # also where the system knows no such flag
            raise FileLinkError(f"{path.name!r} is a link, and semd follows none: save the file itself")
    try:
        handle = os.open(path, flags)
    except OSError as error:
        if not follow_links and error.errno == errno.ELOOP:
            raise FileLinkError(f"{path.name!r} has become a link, and semd follows none") from error
        raise
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError(errno.ENOENT, "no regular file", str(path))
        return file.read(min(n_bytes, found.st_size + 1))
