"""Everything that comes from outside has a largest size, and one byte more is refused (see deploy/THREATS.md)."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from semd.decision.rules import DEFAULT_LIMITS
from semd.domain.axes import AXES
from semd.errors import ActionTextError, ImageSizeError, LinkError, ModelError, ParameterTextError
from semd.inbox.image import FrameSize
from semd.inbox.image_bytes import MAX_PIXELS
from semd.inbox.load import FrameLoader
from semd.middle_client.framing import MAX_LINE_BYTES, SemReplyReader, aisem_reply
from semd.middle_client.journal import Journal
from semd.model_store import MAX_MODEL_BYTES, load_model
from semd.protocol.action import MAX_MESSAGE_BYTES, decode_action
from semd.protocol.pairing import Dialect

TEXT = b"MAG=2000\nWD=9500\nBRIGHTNESS=40\nCONTRAST=50\n"
SIZE = FrameSize(640, 480, max_bytes=100_000)


def loader() -> FrameLoader:
    return FrameLoader(Dialect.COXEM, SIZE, AXES, DEFAULT_LIMITS)


def holes(path: Path, size: int) -> Path:
    """A file of any size that takes no room; reading all of it would."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_of_a_huge_frame_no_more_is_read_than_tells_that_it_is_huge(tmp_path: Path) -> None:
    image, text = loader().read(holes(tmp_path / "f.jpg", 1 << 40), holes(tmp_path / "f.txt", 1 << 40))
    assert len(image) == SIZE.max_bytes + 1
    assert len(text) == (1 << 20) + 1


def test_parameter_text_of_more_than_a_mebibyte_is_refused() -> None:
    padding = b"#" * ((1 << 20) - len(TEXT))
    arguments = ("f", Path("f.jpg"), Path("f.txt"), b"")
    assert loader().build(*arguments, TEXT + padding).parameters.magnification == 2000.0
    with pytest.raises(ParameterTextError, match="more than 1048576 bytes"):
        loader().build(*arguments, TEXT + padding + b"#")


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    end = b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + end


@pytest.mark.parametrize(
    "image", [b"\xff\xd8" + bytes(SIZE.max_bytes), png_header(1 << 15, MAX_PIXELS // (1 << 15) + 1)]
)
def test_too_many_bytes_or_pixels_are_not_decoded(image: bytes) -> None:
    name = Path("f.png" if image.startswith(b"\x89") else "f.jpg")
    frame = loader().build("f", name, Path("f.txt"), image, TEXT)
    assert isinstance(frame.image_error, ImageSizeError)
    assert frame.image is None


def test_an_action_of_more_than_4096_bytes_is_refused() -> None:
    with pytest.raises(ActionTextError, match=f"at most {MAX_MESSAGE_BYTES}"):
        decode_action(b"x" * (MAX_MESSAGE_BYTES + 1))


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_line_without_end_breaks_the_link_before_it_fills_memory(pieces: int) -> None:
    reader = SemReplyReader()
    share = MAX_LINE_BYTES // pieces
    for _ in range(pieces):
        reader.feed(b"x" * share)
    with pytest.raises(LinkError, match="without an end of line"):
        reader.feed(b"x" * (MAX_LINE_BYTES - pieces * share + 1))


def test_a_whole_line_that_is_too_long_is_no_answer() -> None:
    with pytest.raises(LinkError, match="no answer"):
        SemReplyReader().feed(b"NAK " + b"0" * 32 + b" " + b"x" * MAX_LINE_BYTES + b"\n")


def test_of_a_long_aisem_reply_the_beginning_is_kept() -> None:
    assert len(aisem_reply(b"x" * 65536)) == MAX_LINE_BYTES


def test_a_journal_that_is_too_large_is_set_aside_unread(tmp_path: Path) -> None:
    path = holes(tmp_path / "journal.json", 1 << 40)
    assert Journal(path).load() == (None, True)
    assert (tmp_path / "journal.json.damaged").stat().st_size == 1 << 40


def test_a_model_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    entry = {"file": "scorer.safetensors", "sha256": "0" * 64, "input": "", "output": "", "training": {}, "figures": {}}
    text = str({"version": 1, "models": {"scorer": entry}}).replace("'", '"')
    (tmp_path / "manifest.json").write_text(text)
    holes(tmp_path / "scorer.safetensors", MAX_MODEL_BYTES + 1)
    with pytest.raises(ModelError, match="larger than"):
        load_model(tmp_path, "scorer")
