"""Ways in which the independent SEM writes a frame: order, delivery, image format, text encoding, keys, units, extras.

The contract names every one of these as something a reader must bear; a `Manner` is one combination of them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from isem_column import GreyImage, Knobs, pixel_mm


class Order(enum.Enum):
    """Which half of the pair is written first."""

    IMAGE_FIRST = "image first"
    TEXT_FIRST = "text first"


class Delivery(enum.Enum):
    """Way in which the bytes of a file reach its final name."""

    PLAIN = "one write in place"
    SLOW = "chunks with pauses in place"
    PREALLOCATED = "full size of zeros, then filled in chunks"
    RENAMED = "temporary name, then rename"


class Units(enum.Enum):
    """Which unit words stand behind the values."""

    NONE = "no unit words (working distance in µm)"
    MM = "9.5 mm, 2 K X, %"
    TIGHT = "9500um, 2000x"
    METRE = "0.0095 m, 2000 X"
    NANOMETRE = "9500000 nm"


class Keys(enum.Enum):
    """In which order and case the keys stand."""

    UPPER = "table order, upper case"
    LOWER_REVERSED = "reversed, lower case"
    TITLE_SHUFFLED = "shuffled, title case"


_CODECS: Final = {"utf-8": "utf-8", "utf-8-bom": "utf-8-sig", "utf-16": "utf-16", "cp949": "cp949"}
_SHORT_SUFFIX: Final = {"jpeg": "jpg", "tiff": "tif"}


@dataclass(frozen=True, slots=True)
class Manner:
    """One way to write a frame.

    Args:
        order: Which half comes first.
        gap_s: Pause between the halves.
        delivery: How the bytes arrive.
        chunk_pause_s: Pause between chunks for SLOW and PREALLOCATED.
        last_pause_s: Another pause before the image's last chunk, long enough for a hasty reader to answer;
            only for formats that show by themselves that they are cut short (jpg, png).
        image_suffix: One of jpg, jpeg, png, bmp, tif, tiff.
        colour: Write three equal channels instead of one.
        encoding: One of utf-8, utf-8-bom, utf-16, cp949.
        newline: Line ending of the text.
        keys: Order and case of the keys.
        units: Unit words.
        extras: Add unknown keys, empty lines, a line without '=' and Korean text.
        read_back: Write `ACTION=<id of the last applied action>` where one is known.
        announce_twice: Write the identical pair a second time after it is complete (series layout only).
    """

    order: Order = Order.IMAGE_FIRST
    gap_s: float = 0.0
    delivery: Delivery = Delivery.PLAIN
    chunk_pause_s: float = 0.08
    last_pause_s: float | None = None
    image_suffix: str = "jpg"
    colour: bool = False
    encoding: str = "utf-8"
    newline: str = "\r\n"
    keys: Keys = Keys.UPPER
    units: Units = Units.NONE
    extras: bool = False
    read_back: bool = True
    announce_twice: bool = False


def encode_image(image: GreyImage, manner: Manner) -> bytes:
    """Return the image file's bytes.

    Raises:
        ValueError: The codec refused.
    """
    pixels = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if manner.colour else image
    extension = f".{_SHORT_SUFFIX.get(manner.image_suffix, manner.image_suffix)}"
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if extension == ".jpg" else []
    done, buffer = cv2.imencode(extension, pixels, options)
    if not done:
        raise ValueError(f"could not encode {manner.image_suffix}")
    return buffer.tobytes()


def _values(knobs: Knobs, units: Units) -> dict[str, str]:
    """Return the written values of the controlled keys, exact to 0.01 µm and 0.001 of the detector scale."""
    wd_um = knobs.wd_mm * 1000.0
    mag = f"{knobs.magnification:g}"
    wd, percent, written_mag = {
        Units.NONE: (f"{wd_um:.2f}", "", mag),
        Units.MM: (f"{knobs.wd_mm:.5f} mm", " %", f"{knobs.magnification / 1000.0:g} K X"),
        Units.TIGHT: (f"{wd_um:.2f}um", "%", f"{mag}x"),
        Units.METRE: (f"{knobs.wd_mm / 1000.0:.8f} m", "", f"{mag} X"),
        Units.NANOMETRE: (f"{wd_um * 1000.0:.0f} nm", "", f"{mag} x"),
    }[units]
    return {
        "MAG": written_mag,
        "WD": wd,
        "BRIGHTNESS": f"{knobs.brightness:.3f}{percent}",
        "CONTRAST": f"{knobs.contrast:.3f}{percent}",
    }


def encode_text(knobs: Knobs, sample: str, applied_id: str | None, manner: Manner, rng: np.random.Generator) -> bytes:
    """Return the parameter file's bytes in the `coxem` dialect."""
    entries = _values(knobs, manner.units)
    if manner.units is Units.NONE:
        entries |= {"HV": "15000", "PIXEL": f"{pixel_mm(knobs.magnification) * 1e6:.3f}"}
    else:
        entries |= {"HV": "15 kV", "PIXEL": f"{pixel_mm(knobs.magnification) * 1e3:.6f} um"}
    entries |= {"SAMPLE": sample, "STAGE": "1.250,-3.500,0.000"}
    if manner.read_back and applied_id is not None:
        entries["ACTION"] = applied_id
    pairs = list(entries.items())
    if manner.keys is Keys.LOWER_REVERSED:
        pairs = [(key.lower(), value) for key, value in reversed(pairs)]
    elif manner.keys is Keys.TITLE_SHUFFLED:
        pairs = [(pairs[i][0].title(), pairs[i][1]) for i in rng.permutation(len(pairs))]
    lines = [f"{key}={value}" for key, value in pairs]
    if manner.extras:
        lines = [
            "[NanoStation]",
            "DATE=2020-02-10 21:47:54",
            *lines[:2],
            "",
            "STIGX=-0.31",
            "설명=화분 시료",
            *lines[2:],
            "WDOFFSET=12",
        ]
    text = manner.newline.join(lines) + manner.newline
    return text.encode(_CODECS[manner.encoding])


GENTLE: Final = Manner()

MANNERS: Final[dict[str, Manner]] = {
    "image-first": Manner(gap_s=0.35, encoding="utf-8-bom", keys=Keys.LOWER_REVERSED),
    "text-first": Manner(
        order=Order.TEXT_FIRST, gap_s=0.35, image_suffix="png", units=Units.MM, encoding="cp949", extras=True
    ),
    "slow-writer": Manner(
        delivery=Delivery.SLOW, last_pause_s=0.6, image_suffix="jpeg", encoding="utf-16", units=Units.METRE
    ),
    "slow-text-first": Manner(
        order=Order.TEXT_FIRST,
        delivery=Delivery.SLOW,
        last_pause_s=0.6,
        image_suffix="png",
        units=Units.TIGHT,
        newline="\n",
    ),
    "preallocated": Manner(
        delivery=Delivery.PREALLOCATED,
        chunk_pause_s=0.12,
        last_pause_s=0.6,
        image_suffix="jpg",
        keys=Keys.TITLE_SHUFFLED,
    ),
    "preallocated-bitmap": Manner(
        order=Order.TEXT_FIRST,
        delivery=Delivery.PREALLOCATED,
        chunk_pause_s=0.04,
        image_suffix="bmp",
        colour=True,
    ),
    "renamed": Manner(
        delivery=Delivery.RENAMED,
        gap_s=0.2,
        image_suffix="tif",
        units=Units.NANOMETRE,
        extras=True,
        read_back=False,
    ),
    "announced-twice": Manner(announce_twice=True, gap_s=0.05, image_suffix="tiff", encoding="utf-8-bom"),
}
