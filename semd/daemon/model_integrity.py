"""Return True if the model files that were verified on loading are still the ones on disk."""

from __future__ import annotations

from pathlib import Path

from semd.model_store import MANIFEST, Runtime, read_manifest


class ModelIntegrity:
    """Remembers how verified files look, to notice without reading them that one was touched.

    Args:
        paths: the files. Make the seal before they are loaded: what changes in between breaks it.
    """

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self._paths = paths
        self._seen = self._look()

    @classmethod
    def of(cls, directory: Path, runtime: Runtime) -> ModelIntegrity:
        """Seal the manifest and the files that a daemon with this runtime loads.

        Raises:
            ModelError: there is no manifest, or it is none.
        """
        manifest = read_manifest(directory)
        names = [MANIFEST, *(entry.file for entry in manifest.models.values())]
        if runtime != "torch" and runtime in manifest.runtimes:
            names.append(manifest.runtimes[runtime].file)
        return cls(tuple(directory / name for name in names))

    def is_unchanged(self) -> bool:
        """Return True if all files look as they did: inode, size and time of the last change."""
        return None not in self._seen and self._look() == self._seen

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_signature(path) for path in self._paths]


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
