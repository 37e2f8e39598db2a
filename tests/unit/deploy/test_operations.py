"""The operations guide: its table of reasons is the table of stop rules, and its flags are those there are."""

from __future__ import annotations

import re
from pathlib import Path

from semd.decision.stop_rules import reasons_as_markdown
from semd.domain.frame_score import QualityFlag

GUIDE = (Path(__file__).parents[3] / "deploy" / "OPERATIONS.md").read_text("utf-8")


def test_the_reasons_are_the_stop_rules() -> None:
    assert reasons_as_markdown() in GUIDE, "put the output of reasons_as_markdown() into the guide"


def test_every_quality_flag_is_explained() -> None:
    section = GUIDE.partition("| in `flags` |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == {str(flag) for flag in QualityFlag}
