"""Nothing that is loaded can run: no pickle, no evaluated text, weights and arrays as plain numbers only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import semd

FORBIDDEN_MODULES = {
    "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle", "yaml",
}  # fmt: skip
FORBIDDEN_CALLS = {"torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "eval", "exec", "compile"}


def sources() -> dict[str, ast.Module]:
    root = Path(semd.__file__).parent
    return {str(path.relative_to(root)): ast.parse(path.read_text("utf-8")) for path in sorted(root.rglob("*.py"))}


def faults(tree: ast.Module) -> list[str]:
    found: list[str] = []
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.partition(".")[0]: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    found += [f"imports {name}" for name in names.values() if name.partition(".")[0] in FORBIDDEN_MODULES]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        head, dot, rest = called.partition(".")
        called = names.get(head, head) + dot + rest
        if called in FORBIDDEN_CALLS:
            found.append(f"calls {called}")
        if called in ("numpy.load", "numpy.save"):
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            value = keywords.get("allow_pickle")
            if not (isinstance(value, ast.Constant) and value.value is False):
                found.append(f"calls {called} without allow_pickle=False")
    return found


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads as read",
        "import torch\ntorch.load('x')",
        "from torch import load\nload('x')",
        "import torch as t\nt.load('x', weights_only=True)",
        "import numpy as np\nnp.load('x')",
        "import numpy as np\nnp.save('x', a)",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "eval('1')",
        "import joblib",
    ],
)
def test_each_way_would_be_noticed(text: str) -> None:
    assert faults(ast.parse(text))


def test_no_module_of_the_package_knows_a_way() -> None:
    trees = sources()
    assert len(trees) > 100
    assert {name: found for name, tree in trees.items() if (found := faults(tree))} == {}
