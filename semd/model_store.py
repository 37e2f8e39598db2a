"""The weights on disk and their manifest: nothing is loaded that does not match its SHA-256.

`manifest.json` lies beside the weights and says of each file what it is, what it was trained on and what was
measured with it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from semd.errors import ModelError
from semd.storage import write_atomically

Role = Literal["scorer", "actor"]
MANIFEST = "manifest.json"
MAX_MODEL_BYTES = 256 * 1024 * 1024


class ModelEntry(BaseModel):
    """What the manifest says of one file.

    Attributes:
        file: name beside the manifest.
        sha256: of the file.
        input: shape, dtype and scale of what goes in.
        output: what comes out, with its bounds.
        training: command, data, seeds, commit.
        figures: what was measured, each with the command that prints it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(pattern=r"^[A-Za-z0-9_.-]+\.safetensors$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    input: str
    output: str
    training: dict[str, Any]
    figures: dict[str, Any]


class Manifest(BaseModel):
    """The manifest: one entry for each role."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    models: dict[Role, ModelEntry]


@dataclass(frozen=True, slots=True)
class StoredModel:
    """Verified bytes of a safetensors file and its entry in the manifest."""

    data: bytes
    entry: ModelEntry


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
    path = directory / entry.file
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise ModelError(f"{path}: larger than {MAX_MODEL_BYTES} bytes; not one of ours")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); the manifest names it") from error
    found = hashlib.sha256(data).hexdigest()
    if found != entry.sha256:
        raise ModelError(
            f"{path}: SHA-256 is {found}, the manifest says {entry.sha256}; "
            "the file was changed or only half copied: put back both from one release"
        )
    return StoredModel(data=data, entry=entry)


def models_digest(directory: Path) -> str:
    """One digest over both models, from the manifest; part of every action's id."""
    models = read_manifest(directory).models
    return hashlib.sha256("\n".join(f"{role}={models[role].sha256}" for role in sorted(models)).encode()).hexdigest()


def store_model(directory: Path, role: Role, data: bytes, entry: dict[str, Any]) -> ModelEntry:
    """Write weights and their entry in the manifest; the weights first, so that a crash leaves a mismatch.

    Args:
        directory: created if need be.
        role: which model it is.
        data: the safetensors file.
        entry: the entry's fields but `sha256`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    known = read_manifest(directory).models if (directory / MANIFEST).exists() else {}
    made = ModelEntry.model_validate({**entry, "sha256": hashlib.sha256(data).hexdigest()})
    write_atomically(directory / made.file, data)
    manifest = Manifest(models={**known, role: made})
    write_atomically(directory / MANIFEST, (json.dumps(manifest.model_dump(), indent=2) + "\n").encode())
    return made
