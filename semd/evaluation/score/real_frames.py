"""`semd evaluate real`: the scoring machine on real micrographs, none of which is in its training set.

The folder contains any of these subfolders:

- `deepfocus`: one field at three known distances from focus (`pert-5000` farthest, `base`, `pert5000` nearest), with
  10 nm pixels. Nine crops are put in order.
- `gold`: gold on carbon in focus, magnification unknown.
- `zeiss`: TIFF files in focus with their pixel size in tag 34118 or 51023, most with an info bar.

Frames in focus are read as the daemon reads them: the info bar is cut off and the image is scaled by area to 640x480.
Vendors define magnification for prints of different widths. It is therefore computed from the pixel size of the scaled
frame, by the convention of the training set: a field 127 mm wide at x1. Each frame is then blurred by discs of 2 to 16
pixels, and every wider disc must lower the score.
"""

from __future__ import annotations

import io
import re
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from semd.errors import ConfigError, ImageFormatError, ParameterMissingError
from semd.evaluation.score.predictions import FrameProgress
from semd.inbox.dialects import read_parameters
from semd.inbox.image import FrameSize, decode_scaled
from semd.protocol.pairing import Dialect
from semd.reporting.table import Column, TextTable
from semd.scoring.scorer import BEST_SCORE, Scorer
from semd.simulator.optics import FRAME_HEIGHT_PX, FRAME_WIDTH_PX, Blur, pixel_nm

DISCS_PX = (0.0, 2.0, 4.0, 8.0, 16.0)
IN_FOCUS_SCORE = 8.0
GOLD_MAGNIFICATION = 10000.0
"""Gold on carbon is imaged above x10000 (its grains measure tens of nm); this is the top of the papers' range."""

_DEEPFOCUS = ("pert-5000", "base", "pert5000")
_DEEPFOCUS_PIXEL_NM = 10.0
_FIBICS_TAG = 51023
_BAR_STARTS_BELOW = 0.75
_SUFFIXES = (".tif", ".tiff", ".jpg", ".png", ".bmp")


@dataclass(frozen=True, slots=True)
class FocusTriple:
    """Scores of one crop of a field at three distances from focus.

    Attributes:
        crop: position of the crop.
        magnification: computed from the pixel size.
        scores: from the farthest to the nearest, 0..10.
    """

    crop: str
    magnification: float
    scores: tuple[float, ...]

    @property
    def ordered(self) -> bool:
        """True if the score rises towards focus."""
        return all(one < other for one, other in pairwise(self.scores))


@dataclass(frozen=True, slots=True)
class BlurSeries:
    """Scores of a frame in focus, blurred by discs of growing width.

    Attributes:
        name: file name.
        magnification: computed from the pixel size, or assumed.
        info_bar_px: rows cut off at the bottom.
        scores: score for each disc of `DISCS_PX`, 0..10.
        flags: quality flags of the unblurred frame.
    """

    name: str
    magnification: float
    info_bar_px: int
    scores: tuple[float, ...]
    flags: tuple[str, ...]

    @property
    def falls(self) -> bool:
        """True if every wider disc lowers the score; at an end of the scale the score may stay equal."""
        return all(
            wider < narrower or wider == narrower in (0.0, BEST_SCORE) for narrower, wider in pairwise(self.scores)
        )

    @property
    def verdict(self) -> str:
        """Remark of the table: the fall of the score and the quality flags."""
        return " ".join(["falls" if self.falls else "does NOT fall", *self.flags])

    @property
    def falls_strictly(self) -> bool:
        """True if every wider disc lowers the score, at the ends of the scale as well."""
        return all(wider < narrower for narrower, wider in pairwise(self.scores))


@dataclass(frozen=True, slots=True)
class RealFrames:
    """Scores of all micrographs in a folder."""

    triples: tuple[FocusTriple, ...]
    series: tuple[BlurSeries, ...]

    def as_text(self) -> str:
        """Format the tables for a terminal."""
        magnification = Column("mag", form="{:.0f}")
        triples = TextTable(
            columns=(
                Column("deepfocus, towards focus", align="left"),
                magnification,
                *(Column(part, form="{:.2f}") for part in _DEEPFOCUS),
                Column(align="left"),
            ),
            rows=tuple(
                (each.crop, each.magnification, *each.scores, "ordered" if each.ordered else "NOT ordered")
                for each in self.triples
            ),
            notes=(f"in order: {sum(triple.ordered for triple in self.triples)} of {len(self.triples)}",),
        )
        sharp = sum(series.scores[0] >= IN_FOCUS_SCORE for series in self.series)
        strict = sum(series.falls_strictly for series in self.series)
        falling = sum(series.falls for series in self.series)
        blurred = TextTable(
            columns=(
                Column("in focus, then blurred by discs", align="left"),
                magnification,
                *(Column(f"{disc_px:.0f} px", form="{:.2f}") for disc_px in DISCS_PX),
                Column(align="left"),
            ),
            rows=tuple((each.name, each.magnification, *each.scores, each.verdict) for each in self.series),
            notes=(
                f"at least {IN_FOCUS_SCORE:g} in focus: {sharp} of {len(self.series)}",
                f"falling: {falling} of {len(self.series)}, {strict} of them at every step",
            ),
        )
        return f"{triples.as_text()}\n\n{blurred.as_text()}"

    def as_json(self) -> dict[str, object]:
        """Return all figures."""
        return {
            "deepfocus": [asdict(triple) | {"ordered": triple.ordered} for triple in self.triples],
            "discs_px": DISCS_PX,
            "in_focus": [
                asdict(series) | {"falls": series.falls, "falls_strictly": series.falls_strictly}
                for series in self.series
            ],
        }


def evaluate_real(
    directory: Path, scorer: Scorer, track: FrameProgress, gold_magnification: float = GOLD_MAGNIFICATION
) -> RealFrames:
    """Score the micrographs in a folder.

    Args:
        directory: folder with `deepfocus`, `gold`, `zeiss`, or some of them.
        scorer: the scoring machine.
        track: progress display.
        gold_magnification: magnification assumed for the gold frames.

    Raises:
        ConfigError: no subfolder has a readable image, or a file lacks its pixel size.
        FrameError: an image cannot be decoded; the message gives the reason.
    """
    sharp = [path for name in ("gold", "zeiss") for path in _images(directory / name)]
    triples = _triples(directory / "deepfocus", scorer, track)
    if not sharp and not triples:
        raise ConfigError(f"{directory} contains no micrographs in deepfocus, gold or zeiss")
    series = [_series(path, scorer, gold_magnification) for path in track(sharp, "frames in focus")]
    return RealFrames(tuple(triples), tuple(series))


def _images(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("*") if path.suffix.lower() in _SUFFIXES)


def _triples(directory: Path, scorer: Scorer, track: FrameProgress) -> list[FocusTriple]:
    found = [[path for path in _images(directory) if path.stem.endswith(f"_{part}")] for part in _DEEPFOCUS]
    if not any(found):
        return []
    if any(len(paths) != 1 for paths in found):
        raise ConfigError(f"{directory} needs one image of each of {', '.join(_DEEPFOCUS)}")
    # Crops at the native pixel size: these fields are larger than a frame.
    pictures = [_native(paths[0]) for paths in found]
    height, width = pictures[0].shape
    magnification = _magnification(_DEEPFOCUS_PIXEL_NM)
    places = [
        (top, left)
        for top in (0, (height - FRAME_HEIGHT_PX) // 2, height - FRAME_HEIGHT_PX)
        for left in (0, (width - FRAME_WIDTH_PX) // 2, width - FRAME_WIDTH_PX)
    ]
    triples = []
    for top, left in track(places, "focus triples"):
        crops = [picture[top : top + FRAME_HEIGHT_PX, left : left + FRAME_WIDTH_PX] for picture in pictures]
        scores = tuple(scorer.score(np.ascontiguousarray(crop), magnification) for crop in crops)
        triples.append(FocusTriple(f"crop at row {top}, column {left}", magnification, scores))
    return triples


def _series(path: Path, scorer: Scorer, gold_magnification: float) -> BlurSeries:
    data, suffix = path.read_bytes(), path.suffix.lower()
    bar_px = info_bar_rows(_native(path))
    frame, scale = decode_scaled(data, suffix, FrameSize(info_bar_px=bar_px))
    of_gold = path.parent.name == "gold"
    magnification = gold_magnification if of_gold else _magnification(_pixel_size_nm(path, data) * scale)
    judged = [scorer.judge(_blurred(frame, disc_px), magnification) for disc_px in DISCS_PX]
    flags = tuple(str(flag) for flag in judged[0].flags)
    return BlurSeries(path.name, magnification, bar_px, tuple(each.score for each in judged), flags)


def _native(path: Path) -> NDArray[np.uint8]:
    """Decode an image at its native size, uint8 (H, W); its content, not its suffix, decides the format.

    Raises:
        ImageFormatError: the image cannot be decoded.
    """
    data = path.read_bytes()
    if path.suffix.lower() in (".tif", ".tiff"):
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            height, width = file.pages.first.shape[:2]
        return decode_scaled(data, ".tif", FrameSize(width, height))[0]
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    if picture is None:
        raise ImageFormatError(f"{path} cannot be decoded")
    return np.asarray(picture, dtype=np.uint8)


def _blurred(frame: NDArray[np.uint8], disc_px: float) -> NDArray[np.uint8]:
    if disc_px == 0.0:
        return frame
    blurred = Blur(disc_px, disc_px).apply(frame.astype(np.float32))
    return np.asarray(np.clip(np.rint(blurred), 0.0, 255.0), dtype=np.uint8)


def info_bar_rows(picture: NDArray[np.uint8]) -> int:
    """Count the rows of an info bar at the bottom of a micrograph, uint8 (H, W); 0 if there is none.

    The rows of an info bar are mostly pure black or white.
    """
    clipped = ((picture == 0) | (picture == 255)).mean(axis=1) > 0.5
    start = int(_BAR_STARTS_BELOW * len(picture))
    rows = np.flatnonzero(clipped[start:])
    # A real bar extends to the last row without gaps.
    if not len(rows) or clipped[start + rows[0] :].mean() < 0.8:
        return 0
    return len(picture) - start - int(rows[0])


def _magnification(pixel_size_nm: float) -> float:
    """Magnification of a 640-pixel-wide frame with pixels of this size."""
    return pixel_nm(1.0) / pixel_size_nm


def _pixel_size_nm(path: Path, data: bytes) -> float:
    """Read the pixel size in nm from Zeiss's tag, or else from the tag of the Atlas engine.

    Raises:
        ConfigError: the file has neither tag.
    """
    try:
        known = read_parameters(Dialect.ZEISS, b"", data, ()).pixel_nm
    except ParameterMissingError:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            tag = file.pages.first.tags.get(_FIBICS_TAG)
        found = re.search(r"<Ux>([0-9.eE+-]+)</Ux>", str(tag.value)) if tag is not None else None
        known = float(found[1]) * 1000.0 if found else None
    if not known:
        raise ConfigError(f"{path}: no pixel size in tag 34118 or {_FIBICS_TAG}")
    return known
