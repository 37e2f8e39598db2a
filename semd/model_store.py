"""Weights on disk and their manifest: nothing is loaded that does not match its SHA-256.

`manifest.json` lies beside the weights and describes each file: its form, its training and its measured figures.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from semd.errors import ModelError
from semd.service.storage import write_atomically

Role = Literal["scorer", "actor"]
Runtime = Literal["torch", "fp32", "int8"]
"""Engine of the scorer's convolutions: torch, or a model exported from the weights."""
ExportedRuntime = Literal["fp32", "int8"]
MANIFEST = "manifest.json"
MAX_MODEL_BYTES = 256 * 1024 * 1024


class ModelEntry(BaseModel):
    """The manifest's entry of one weights file.

    Attributes:
        file: name beside the manifest.
        sha256: of the file.
        input: shape, dtype and scale of the input.
        output: the output and its bounds.
        training: command, data, seeds, commit.
        figures: measured figures, each with the command that prints it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(pattern=r"^[A-Za-z0-9_.-]+\.safetensors$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    input: str
    output: str
    training: dict[str, Any]
    figures: dict[str, Any]


class RuntimeEntry(BaseModel):
    """The manifest's entry of a model exported from the scorer's weights.

    Attributes:
        file: name beside the manifest.
        sha256: of the file.
        scorer_sha256: of the weights it was made of.
        made: command, recipe, versions, processor.
        figures: differences from eager torch, measured at the export.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(pattern=r"^[A-Za-z0-9_.-]+\.onnx$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scorer_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    made: dict[str, Any]
    figures: dict[str, Any]


class Manifest(BaseModel):
    """The manifest: one entry for each role, and one for each exported runtime, if any."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    models: dict[Role, ModelEntry]
    runtimes: dict[ExportedRuntime, RuntimeEntry] = {}


@dataclass(frozen=True, slots=True)
class StoredModel:
    """Verified bytes of a safetensors file and its entry in the manifest."""

    data: bytes
    entry: ModelEntry


@dataclass(frozen=True, slots=True)
class StoredRuntime:
    """Verified bytes of an exported model and its entry in the manifest."""

    data: bytes
    entry: RuntimeEntry


def default_directory() -> Path:
    """The weights that came with semd: inside the installed package, or the repository's `models`."""
    package = Path(__file__).resolve().parent
    installed = package / "_models"
    return installed if installed.is_dir() else package.parent / "models"


def read_manifest(directory: Path) -> Manifest:
    """Read the manifest.

    Raises:
        ModelError: missing, or not a manifest.
    """
    path = directory / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); [models] directory names it") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"{path}: not a manifest: {where}: {first['msg']}") from error


def load_model(directory: Path, role: Role) -> StoredModel:
    """Read one model's bytes and check them against the manifest.

    Raises:
        ModelError: no such entry or file, too large, or its SHA-256 is not the manifest's.
    """
    entry = read_manifest(directory).models.get(role)
    if entry is None:
        raise ModelError(f"{directory / MANIFEST}: no entry for {role!r}")
    return StoredModel(data=_read_verified(directory / entry.file, entry.sha256), entry=entry)


def load_runtime(directory: Path, runtime: ExportedRuntime) -> StoredRuntime:
    """Read an exported model's bytes, check them against the manifest, and that they belong to the scorer.

    Raises:
        ModelError: no such entry or file, too large, its SHA-256 is not the manifest's, or it was made of other
            weights than the scorer's.
    """
    manifest = read_manifest(directory)
    entry, scorer = manifest.runtimes.get(runtime), manifest.models.get("scorer")
    if entry is None:
        raise ModelError(
            f"{directory / MANIFEST}: no {runtime} export of the scorer: {_how_to_export(directory, runtime)}"
        )
    if scorer is None or entry.scorer_sha256 != scorer.sha256:
        raise ModelError(
            f"{directory / entry.file} was made of other weights than the scorer's: "
            f"{_how_to_export(directory, runtime)}"
        )
    return StoredRuntime(data=_read_verified(directory / entry.file, entry.sha256), entry=entry)


def _how_to_export(directory: Path, runtime: ExportedRuntime) -> str:
    return f"export it again with `semd model export --runtime {runtime} --models {directory}`"


def _read_verified(path: Path, sha256: str) -> bytes:
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise ModelError(f"{path}: larger than {MAX_MODEL_BYTES} bytes; not one of ours")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); the manifest names it") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ModelError(
            f"{path}: SHA-256 is {found}, the manifest says {sha256}; "
            "the file was changed or only half copied: put back both from one release"
        )
    return data


def models_digest(directory: Path, runtime: Runtime = "torch") -> str:
    """One digest over both models and the exported one in use, from the manifest; part of every action's id."""
    manifest = read_manifest(directory)
    parts = [f"{role}={manifest.models[role].sha256}" for role in sorted(manifest.models)]
    if runtime != "torch" and runtime in manifest.runtimes:
        parts.append(f"{runtime}={manifest.runtimes[runtime].sha256}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def store_model(directory: Path, role: Role, data: bytes, entry: dict[str, Any]) -> ModelEntry:
    """Write weights and their entry in the manifest; the weights first, so that a crash leaves a mismatch.

    Args:
        directory: models folder, created if it is missing.
        role: role of the model.
        data: the safetensors file.
        entry: the entry's fields but `sha256`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    manifest = read_manifest(directory) if (directory / MANIFEST).exists() else Manifest(models={})
    made = ModelEntry.model_validate({**entry, "sha256": hashlib.sha256(data).hexdigest()})
    write_atomically(directory / made.file, data)
    _write_manifest(directory, manifest.model_copy(update={"models": {**manifest.models, role: made}}))
    return made


def store_runtime(directory: Path, runtime: ExportedRuntime, data: bytes, entry: dict[str, Any]) -> RuntimeEntry:
    """Write an exported model and its entry in the manifest, in the same order.

    Args:
        directory: holds the manifest with the scorer.
        runtime: runtime of the exported model.
        data: the ONNX file.
        entry: the entry's fields but `file` and `sha256`.

    Raises:
        ModelError: no manifest.
        StorageError: the folder cannot be written.
    """
    manifest = read_manifest(directory)
    made = RuntimeEntry.model_validate(
        {**entry, "file": f"scorer.{runtime}.onnx", "sha256": hashlib.sha256(data).hexdigest()}
    )
    write_atomically(directory / made.file, data)
    _write_manifest(directory, manifest.model_copy(update={"runtimes": {**manifest.runtimes, runtime: made}}))
    return made


def _write_manifest(directory: Path, manifest: Manifest) -> None:
    values = manifest.model_dump()
    if not manifest.runtimes:
        # A folder without exports stays readable for a semd that knows of none.
        del values["runtimes"]
    write_atomically(directory / MANIFEST, (json.dumps(values, indent=2) + "\n").encode())
