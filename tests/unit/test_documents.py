"""The documents: every link leads somewhere, README is short, docstrings open as a native engineer writes."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path for path in ROOT.rglob("*.md") if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchors(document: Path) -> set[str]:
    """Anchors of a document's headings, as hosting sites make them."""
    text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in LINK.findall(document.read_text("utf-8")):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), f"{document.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{document.name}: {link}"


def test_readme_is_short_and_its_commands_stand_on_lines_of_their_own() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 130
    assert len(text.split()) <= 1500
    commands = [line for line in text.splitlines() if line.startswith("python3 ")]
    assert len([line for line in commands if line.endswith(" pytest")]) == 1
    assert len([line for line in commands if "semd demo" in line]) == 1


def test_docstrings_open_with_an_imperative_or_a_noun_phrase() -> None:
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for path in [*(ROOT / "semd").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            text = ast.get_docstring(node) if isinstance(node, nodes) else None
            assert text is None or text.split()[0] not in {"What", "Whether", "How"}, f"{path}: {text}"


def test_module_and_class_names_are_unique() -> None:
    seen: dict[str, Path] = {}
    for path in sorted((ROOT / "semd").rglob("*.py")):
        names = [] if path.name in {"__init__.py", "__main__.py"} else [f"module {path.stem}"]
        names += [
            f"class {node.name}"
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.ClassDef)
        ]
        for name in names:
            assert name not in seen, f"{name}: {seen[name]} and {path}"
            seen[name] = path


def test_no_document_and_no_source_carries_a_path_of_somebodys_machine() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    for name in tracked:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".service"} and path.is_file() and path != Path(__file__):
            assert "/home/" not in path.read_text("utf-8", "replace"), name
