"""Decoding of text from instruments' PCs: UTF-8, UTF-16 with a byte order mark, else CP949 (protocol, section 1)."""

from __future__ import annotations

import codecs
from collections.abc import Collection

from semd.errors import ParameterTextError


def decode_text(data: bytes, fallback: str = "cp949") -> str:
    """Decode parameter text.

    Args:
        data: the file.
        fallback: encoding when it is neither UTF-8 nor carries a byte order mark.

    Raises:
        ParameterTextError: none of the encodings fits, or the text holds NUL characters, as a pre-allocated file does
            where it is not written yet.
    """
    text = _decode(data, fallback)
    if "\0" in text:
        raise ParameterTextError("the text holds NUL characters: it is not written to its end")
    return text


def _decode(data: bytes, fallback: str) -> str:
    try:
        if data.startswith(codecs.BOM_UTF8):
            return data.decode("utf-8-sig")
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return data.decode("utf-16")
    except UnicodeDecodeError as error:
        raise ParameterTextError(f"the text breaks its own byte order mark: {error.reason}") from error
    for encoding in ("utf-8", fallback):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ParameterTextError("the text is neither UTF-8, nor UTF-16 with a byte order mark, nor " + fallback.upper())


def key_values(text: str, separator: str = "=", *, wanted: Collection[str] | None = None) -> dict[str, str]:
    """Read `KEY<separator>value` lines into a dictionary with upper-case keys; other lines are skipped.

    Args:
        text: the lines.
        separator: between key and value.
        wanted: upper-case keys to keep; None keeps all.

    Raises:
        ParameterTextError: a key stands twice with different values, as where the tail of an older text remains.
    """
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, mark, value = line.partition(separator)
        key, value = key.strip().upper(), value.strip()
        if not mark or not key or (wanted is not None and key not in wanted):
            continue
        if found.setdefault(key, value) != value:
            raise ParameterTextError(f"{key[:40]} stands twice with different values")
    return found
