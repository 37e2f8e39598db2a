"""Nothing is loaded that does not match the manifest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from semd.errors import ModelError
from semd.model_store import load_model, models_digest, read_manifest, store_model

ENTRY = {"input": "i", "output": "o", "training": {"seed": 1}, "figures": {}}


def store(directory: Path, role: str, data: bytes) -> None:
    store_model(directory, role, data, {**ENTRY, "file": f"{role}.safetensors"})  # type: ignore[arg-type]


def test_what_is_stored_is_loaded(tmp_path: Path) -> None:
    store(tmp_path, "scorer", b"weights")
    store(tmp_path, "actor", b"others")
    model = load_model(tmp_path, "scorer")
    assert model.data == b"weights"
    assert model.entry.sha256 == hashlib.sha256(b"weights").hexdigest()
    assert set(read_manifest(tmp_path).models) == {"scorer", "actor"}


@pytest.mark.parametrize("change", [b"weightz", b"weight", b"weights ", b""])
def test_changed_weights_are_refused(tmp_path: Path, change: bytes) -> None:
    store(tmp_path, "scorer", b"weights")
    (tmp_path / "scorer.safetensors").write_bytes(change)
    with pytest.raises(ModelError, match="SHA-256"):
        load_model(tmp_path, "scorer")


def test_missing_things_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"manifest\.json"):
        load_model(tmp_path, "scorer")
    store(tmp_path, "scorer", b"weights")
    with pytest.raises(ModelError, match="'actor'"):
        load_model(tmp_path, "actor")
    (tmp_path / "scorer.safetensors").unlink()
    with pytest.raises(ModelError, match=r"scorer\.safetensors"):
        load_model(tmp_path, "scorer")


@pytest.mark.parametrize("file", ["../scorer.safetensors", "/etc/passwd", "scorer.pt", "a/b.safetensors"])
def test_a_manifest_cannot_point_elsewhere(tmp_path: Path, file: str) -> None:
    store(tmp_path, "scorer", b"weights")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["models"]["scorer"]["file"] = file
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="not a manifest"):
        load_model(tmp_path, "scorer")


def test_the_digest_changes_with_either_model(tmp_path: Path) -> None:
    store(tmp_path, "scorer", b"weights")
    store(tmp_path, "actor", b"others")
    first = models_digest(tmp_path)
    store(tmp_path, "actor", b"changed")
    assert models_digest(tmp_path) != first
