"""A small part of `semd evaluate fuzz` at every run: the whole corpus and some hundred of its descendants."""

from __future__ import annotations

from pathlib import Path

import pytest

from semd.campaigns.fuzz.fuzz_worker import run_block
from semd.campaigns.fuzz.targets import TARGETS, Target, read_corpus

CORPUS = Path(__file__).parent / "corpus"
NO_FRAME_OF_THEIRS = {"fei-tags", "zeiss-tags"}
"""Their corpus is of all TIFFs; few carry what they look for."""


@pytest.mark.parametrize("target", TARGETS, ids=[target.name for target in TARGETS])
def test_no_input_does_what_none_may_do(target: Target, tmp_path: Path) -> None:
    corpus = read_corpus(CORPUS, target)
    block = run_block(target, target.open(tmp_path), corpus, 7, range(len(corpus) + 250), limit_s=10.0)
    assert block.findings == []
    assert block.inputs == len(corpus) + 250
    assert block.accepted > 0 or target.name in NO_FRAME_OF_THEIRS


def test_every_folder_of_the_corpus_is_used() -> None:
    assert {path.name for path in CORPUS.iterdir()} == {target.folder for target in TARGETS}
