"""From two files to a frame: read once, digest, parameters, picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from semd.config import Config
from semd.domain.axes import Axis
from semd.domain.identity import digest
from semd.domain.limits import Limits
from semd.domain.pairing import Dialect
from semd.domain.parameter_text import check_parameters
from semd.errors import FrameError, ImageFormatError, ParameterTextError
from semd.inbox.dialects import read_parameters
from semd.inbox.frame import LoadedFrame
from semd.inbox.image import FrameSize, decode_scaled

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
        """The reader that a configuration describes."""
        watch = config.watch
        rules = config.rules(n_frames=1, rho=1.0)
        size = FrameSize(watch.width_px, watch.height_px, watch.info_bar_px, int(watch.max_image_mb * 1e6))
        return cls(watch.dialect, size, rules.axes, rules.limits)

    def load(self, stem: str, image_path: Path, text_path: Path | None) -> LoadedFrame:
        """Read a frame's files and make a frame of them.

        An unusable image is no error here: the frame is answered all the same, with HOLD.

        Raises:
            FrameError: the parameters cannot be used.
            OSError: a file cannot be read.
        """
        return self.build(stem, image_path, text_path, *self.read(image_path, text_path))

    def read(self, image_path: Path | None, text_path: Path | None) -> tuple[bytes, bytes]:
        """Read the files that are there, but never more than one byte beyond what `build` takes: memory is finite.

        Raises:
            OSError: a file cannot be read.
        """
        text = _read_at_most(text_path, _MAX_TEXT_BYTES + 1) if text_path is not None else b""
        image = _read_at_most(image_path, self.size.max_bytes + 1) if image_path is not None else b""
        return image, text

    def build(self, stem: str, image_path: Path, text_path: Path | None, image: bytes, text: bytes) -> LoadedFrame:
        """Make a frame of its files' bytes; see `load`."""
        if not stem.isprintable() or any("\udc80" <= letter <= "\udcff" for letter in stem):
            raise ImageFormatError(f"the file name {stem!r} holds characters that cannot stand in an action")
        if len(text) > _MAX_TEXT_BYTES:
            raise ParameterTextError(f"the parameter text has more than {_MAX_TEXT_BYTES} bytes")
        parameters = read_parameters(self.dialect, text, image, self.axes)
        check_parameters(parameters, self.axes, self.limits)
        picture, error = None, None
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


def _read_at_most(path: Path, n_bytes: int) -> bytes:
    if path.stat().st_size < n_bytes:
        return path.read_bytes()
    with path.open("rb") as file:
        return file.read(n_bytes)
