"""Nothing is loaded that does not match the manifest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from semd.errors import ModelError
from semd.model_store import load_model, load_runtime, models_digest, read_manifest, store_model, store_runtime

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


def store_export(directory: Path, data: bytes = b"exported") -> None:
    scorer = read_manifest(directory).models["scorer"].sha256
    store_runtime(directory, "int8", data, {"scorer_sha256": scorer, "made": {}, "figures": {}})


def test_an_export_is_loaded_only_beside_the_weights_it_was_made_of(tmp_path: Path) -> None:
    store(tmp_path, "scorer", b"weights")
    with pytest.raises(ModelError, match=r"no int8 export.*semd model export --runtime int8"):
        load_runtime(tmp_path, "int8")
    store_export(tmp_path)
    found = load_runtime(tmp_path, "int8")
    assert (found.data, found.entry.file) == (b"exported", "scorer.int8.onnx")
    assert load_model(tmp_path, "scorer").data == b"weights"
    store(tmp_path, "actor", b"others")
    assert load_runtime(tmp_path, "int8").data == b"exported"
    store(tmp_path, "scorer", b"better weights")
    with pytest.raises(ModelError, match=r"other weights.*export it again"):
        load_runtime(tmp_path, "int8")


def test_a_changed_export_is_refused(tmp_path: Path) -> None:
    store(tmp_path, "scorer", b"weights")
    store_export(tmp_path)
    (tmp_path / "scorer.int8.onnx").write_bytes(b"exporteD")
    with pytest.raises(ModelError, match="SHA-256"):
        load_runtime(tmp_path, "int8")
    (tmp_path / "scorer.int8.onnx").unlink()
    with pytest.raises(ModelError, match=r"scorer\.int8\.onnx: cannot be read"):
        load_runtime(tmp_path, "int8")


def test_the_digest_tells_runtimes_apart(tmp_path: Path) -> None:
    store(tmp_path, "scorer", b"weights")
    plain = models_digest(tmp_path)
    store_export(tmp_path)
    assert models_digest(tmp_path) == plain
    first = models_digest(tmp_path, "int8")
    store_export(tmp_path, b"other")
    assert len({plain, first, models_digest(tmp_path, "int8")}) == 3


def test_a_folder_without_exports_has_the_manifest_it_always_had(tmp_path: Path) -> None:
    store(tmp_path, "scorer", b"weights")
    assert set(json.loads((tmp_path / "manifest.json").read_text())) == {"version", "models"}
