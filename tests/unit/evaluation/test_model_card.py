"""The model card of the shipped weights is the one that their manifest gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from semd.errors import ModelError
from semd.evaluation.model_card import BEGIN, CARD, END, render_card, update_card
from semd.model_store import read_manifest

MODELS = Path(__file__).parents[3] / "models"


def test_the_committed_card_is_up_to_date() -> None:
    generated = (MODELS / CARD).read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    assert generated.strip() == render_card(read_manifest(MODELS)).strip(), "run `semd model card`"


def test_only_the_part_between_the_marks_is_replaced(tmp_path: Path) -> None:
    shutil.copy(MODELS / "manifest.json", tmp_path)
    (tmp_path / CARD).write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", "utf-8")
    text = update_card(tmp_path).read_text("utf-8")
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old\n" not in text
    assert "scorer.safetensors" in text


def test_a_card_without_marks_is_left_alone(tmp_path: Path) -> None:
    shutil.copy(MODELS / "manifest.json", tmp_path)
    (tmp_path / CARD).write_text("mine", "utf-8")
    with pytest.raises(ModelError, match="not both there"):
        update_card(tmp_path)
    assert (tmp_path / CARD).read_text("utf-8") == "mine"
