"""From two files to a frame: read once, digest, parameters, picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from semd.config import Config
from semd.domain.axes import Axis
from semd.domain.identity import digest
from semd.domain.limits import Limits
from semd.domain.pairing import Dialect
from semd.domain.parameter_text import check_parameters
from semd.errors import FrameError, ImageFormatError
from semd.inbox.dialects import read_parameters
from semd.inbox.frame import LoadedFrame
from semd.inbox.image import FrameSize, decode_image


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
        text = text_path.read_bytes() if text_path is not None else b""
        return self.build(stem, image_path, text_path, image_path.read_bytes(), text)

    def build(self, stem: str, image_path: Path, text_path: Path | None, image: bytes, text: bytes) -> LoadedFrame:
        """Make a frame of its files' bytes; see `load`."""
        if not stem.isprintable() or any("\udc80" <= letter <= "\udcff" for letter in stem):
            raise ImageFormatError(f"the file name {stem!r} holds characters that cannot stand in an action")
        parameters = read_parameters(self.dialect, text, image)
        check_parameters(parameters, self.axes, self.limits)
        picture, error = None, None
        try:
            picture = decode_image(image, image_path.suffix.lower(), self.size)
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
