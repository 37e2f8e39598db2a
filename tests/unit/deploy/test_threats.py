"""The threat model names a test for every defence, and each of them exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
THREATS = ROOT / "deploy" / "THREATS.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> list[list[str]]:
    section = THREATS.read_text("utf-8").partition("\n## Threats\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[-1] not in ("shown by", "---")]


def test_every_threat_has_a_defence_and_a_test() -> None:
    found = rows()
    assert len(found) >= 15
    for row in found:
        assert len(row) == 3, row
        assert row[0]
        assert row[1]
        assert NAMED.search(row[2]), row[0]


def test_every_test_named_exists() -> None:
    named = NAMED.findall(THREATS.read_text("utf-8"))
    for file, test in named:
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, f"{file}::{test}"
