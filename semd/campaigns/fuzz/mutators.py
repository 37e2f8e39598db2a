"""Mutated inputs, each determined by corpus, seed, target and index alone."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

Mutation = Callable[[random.Random, bytearray, Sequence[bytes]], bytearray]
"""Mutates `data`, possibly in place; may take parts from the corpus."""

_HEADER_BYTES = 400
"""Most mutations hit the header, where binary formats store lengths and offsets."""
_MOST_BYTES = 1 << 18
_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
_INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_NUMBERS = (
    b"0", b"-0", b"-1", b"nan", b"inf", b"-Infinity", b"1e400", b"1e-400", b"1_000", b"0x10", b"1e308", b"4" * 400,
    b"99999999999999999999", b".5", b"5.", b"1,5", b"+", b"\xd9\xa3", b"\xef\xbc\x95", b"true", b"", b"null", b"-1e-9",
)  # fmt: skip
_PIECES = (
    b"=", b"\n", b"\r", b"\r\n", b"\0", b",", b"[", b"]", b"{", b"}", b'"', b"'", b"#", b" ", b"\t", b"\x85",
    b"\xe2\x80\xa8", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc2", b"\\", b"../", b"\x1b[2J", b"K X", b" um",
)  # fmt: skip


def make_input(target: str, corpus: Sequence[bytes], seed: int, index: int, *, is_text: bool) -> bytes:
    """Make the input with an index: first the corpus itself, then mutations of it without end.

    Args:
        target: name of the target; two targets with one corpus get different inputs.
        corpus: files of the corpus, at least one.
        seed: seed of the campaign.
        index: index of the input, from 0.
        is_text: True to mutate lines and numbers as well as bytes.
    """
    if index < len(corpus):
        return corpus[index]
    rng = random.Random(f"{seed}/{target}/{index}")  # noqa: S311 - repeatable, keeps no secret
    data = bytearray(rng.choice(corpus))
    mutations = _TEXT if is_text and rng.random() < 0.75 else _BINARY
    for _ in range(rng.choice((1, 1, 2, 2, 3, 5, 8))):
        data = rng.choice(mutations)(rng, data, corpus) or bytearray(b"x")
        del data[_MOST_BYTES:]
    if is_text and rng.random() < 0.08:
        return _reencoded(rng, bytes(data))
    return bytes(data)


def _place(rng: random.Random, data: bytearray) -> int:
    return rng.randrange(min(len(data), _HEADER_BYTES) if rng.random() < 0.7 else len(data))


def _flip(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    data[_place(rng, data)] ^= 1 << rng.randrange(8)
    return data


def _overwrite(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    place, count = _place(rng, data), rng.choice((1, 2, 4, 8))
    data[place : place + count] = rng.randbytes(count)
    return data


def _lie(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    """Insert a number that lengths and offsets do not expect."""
    place, width = _place(rng, data), rng.choice((1, 2, 4))
    value = rng.choice(_INTEGERS) & ((1 << 8 * width) - 1)
    data[place : place + width] = value.to_bytes(width, rng.choice(("little", "big")))
    return data


def _cut(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    place = _place(rng, data)
    del data[place : place + rng.choice((1, 2, 4, 20, 200))]
    return data


def _insert(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    place = _place(rng, data)
    data[place:place] = rng.randbytes(rng.randrange(1, 9))
    return data


def _repeat(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    place = _place(rng, data)
    piece = data[place : place + rng.choice((1, 2, 8, 64))]
    data[place:place] = piece * rng.choice((1, 2, 20, 1000))
    return data


def _splice(rng: random.Random, data: bytearray, corpus: Sequence[bytes]) -> bytearray:
    other = rng.choice(corpus)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _truncate(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    del data[rng.randrange(len(data)) :]
    return data


def _blank_tail(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    """Zero the tail, as in a pre-allocated file that was not written to its end."""
    place = rng.randrange(len(data))
    data[place:] = bytes(len(data) - place)
    return data


def _number(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    found = list(_NUMBER.finditer(data))
    if found:
        start, end = rng.choice(found).span()
        data[start:end] = rng.choice(_NUMBERS)
    return data


def _piece(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    place = rng.randrange(len(data) + 1)
    data[place:place] = rng.choice(_PIECES) * rng.choice((1, 1, 1, 2, 50, 3000))
    return data


def _lines(rng: random.Random, data: bytearray, corpus: Sequence[bytes]) -> bytearray:
    """Drop, duplicate, swap or borrow a line."""
    lines = bytes(data).splitlines(keepends=True)
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            del lines[first]
        case 1:
            lines.insert(first, lines[second])
        case 2:
            lines[first], lines[second] = lines[second], lines[first]
        case _:
            lines.insert(first, rng.choice(rng.choice(corpus).splitlines(keepends=True) or [b"\n"]))
    return bytearray(b"".join(lines))


def _value(rng: random.Random, data: bytearray, corpus: Sequence[bytes]) -> bytearray:
    """Combine the key of one line with the value of another."""
    lines = bytes(data).splitlines(keepends=True)
    other = (rng.choice(corpus).splitlines(keepends=True) or [b"\n"])[-1]
    first, source = rng.randrange(len(lines)), rng.choice([*lines, other])
    key, mark, _ = lines[first].partition(b"=")
    lines[first] = key + (mark or b"=") + source.partition(b"=")[2]
    return bytearray(b"".join(lines))


def _reencoded(rng: random.Random, data: bytes) -> bytes:
    return data.decode("utf-8", "replace").encode(rng.choice(("utf-16", "utf-8-sig", "cp949", "utf-16-be")), "replace")


_BINARY: tuple[Mutation, ...] = (
    _flip, _flip, _overwrite, _lie, _lie, _cut, _insert, _repeat, _splice, _truncate, _blank_tail,
)  # fmt: skip
_TEXT: tuple[Mutation, ...] = (
    _number, _number, _number, _piece, _piece, _lines, _lines, _value, _flip, _cut, _repeat, _splice,
)  # fmt: skip
