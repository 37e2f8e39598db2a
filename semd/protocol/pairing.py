"""Pairing of image and parameter files by their names (protocol, section 1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


class Layout(StrEnum):
    """Naming of frames: a new stem for each (`series`), or one pair that is overwritten (`single`)."""

    SERIES = "series"
    SINGLE = "single"


class Dialect(StrEnum):
    """Maker whose parameter text is read."""

    COXEM = "coxem"
    HITACHI = "hitachi"
    JEOL = "jeol"
    TESCAN = "tescan"
    ZEISS = "zeiss"
    FEI = "fei"

    @property
    def sidecar_suffix(self) -> str | None:
        """Suffix of the parameter file, or None where the parameters are tags of the image."""
        if self in (Dialect.ZEISS, Dialect.FEI):
            return None
        return ".hdr" if self is Dialect.TESCAN else ".txt"


@dataclass(frozen=True, slots=True)
class Candidate:
    """Files of one stem in the watch directory; one of the names may still be missing.

    Attributes:
        stem: the common stem.
        image: name of the image file, or None.
        text: name of the parameter file, or None; always None where the image carries the parameters.
        whole: True where every file that this dialect needs is there.
    """

    stem: str
    image: str | None
    text: str | None
    whole: bool


def pair_names(names: Iterable[str], dialect: Dialect) -> list[Candidate]:
    """Pair file names by stem, in natural order of the stems.

    Hidden files and names with other suffixes, such as temporary files, are ignored. Of several images with one stem
    the first in the order of `IMAGE_SUFFIXES` is taken.
    """
    images: dict[str, str] = {}
    texts: dict[str, str] = {}
    for name in names:
        stem, dot, suffix = name.rpartition(".")
        suffix = (dot + suffix).lower()
        if not stem or name.startswith((".", "~")):
            continue
        if suffix in IMAGE_SUFFIXES:
            known = images.get(stem)
            if known is None or _rank(name) < _rank(known):
                images[stem] = name
        elif suffix == dialect.sidecar_suffix and not name.lower().endswith(".reason.txt"):
            texts[stem] = name
    if dialect is Dialect.TESCAN:
        texts = {_tescan_stem(stem, images): name for stem, name in texts.items()}
    stems = images if dialect.sidecar_suffix is None else images.keys() | texts.keys()
    return [
        Candidate(
            stem=stem,
            image=images.get(stem),
            text=texts.get(stem),
            whole=stem in images and (dialect.sidecar_suffix is None or stem in texts),
        )
        for stem in sorted(stems, key=natural_key)
    ]


def natural_key(stem: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key under which `frame-9` comes before `frame-10`."""
    parts = re.split(r"(\d+)", stem, flags=re.ASCII)
    return tuple((0, int(part)) if part.isdecimal() and part.isascii() else (1, part) for part in parts)


def _rank(name: str) -> tuple[int, str]:
    return IMAGE_SUFFIXES.index("." + name.rpartition(".")[2].lower()), name


def _tescan_stem(stem: str, images: dict[str, str]) -> str:
    """TESCAN names the header of `a.tif` either `a.hdr` or `a-tif.hdr`."""
    base, dash, suffix = stem.rpartition("-")
    return base if dash and f".{suffix.lower()}" in IMAGE_SUFFIXES and base in images else stem
