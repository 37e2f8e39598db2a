"""`run_auto_focus` of OpenFIBSEM (package `fibsem`), driving the bench through the methods it asks of a microscope."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from semd.evaluation.baselines.baseline_harness import Bench
from semd.evaluation.baselines.third_party import load_package, silenced

# The package sweeps about the start, so its range covers the bench's from there.
_COARSE_RANGE_U, _COARSE_STEP_U, _FINE_RANGE_U, _FINE_STEP_U = 60.0, 3.0, 6.0, 0.5


class Fibsem:
    """The package's sweep in two passes."""

    def __init__(self, *, wide: bool) -> None:
        """Load the package.

        Args:
            wide: sweep the whole range in steps that follow the depth of field, 34 frames; otherwise the package's
                default, 50 µm in steps of 5 µm and then 10 µm in steps of 1 µm, 22 frames.

        Raises:
            PeerError: the package is not installed, or does not work here.
        """
        self._autofocus = load_package("fibsem.autofunctions.autofocus")
        self._structures = load_package("fibsem.structures")
        self._wide = wide

    def focus(self, bench: Bench) -> bool:
        """Sweep; it always believes in what it found."""
        settings = self._autofocus.AutoFocusSettings(use_autocontrast=False)
        if self._wide:
            unit_m = bench.unit_mm * 1e-3
            settings = self._autofocus.AutoFocusSettings.from_coarse_fine(
                coarse_range=_COARSE_RANGE_U * unit_m,
                coarse_step=_COARSE_STEP_U * unit_m,
                fine_range=_FINE_RANGE_U * unit_m,
                fine_step=_FINE_STEP_U * unit_m,
                use_autocontrast=False,
            )
        with silenced("fibsem"):
            found = self._autofocus.run_auto_focus(_Column(bench, self._structures), settings=settings)
        return found is not None


class _Column:
    """The part of `fibsem.microscope.FibsemMicroscope` that `run_auto_focus` uses; lengths in metres."""

    def __init__(self, bench: Bench, structures: ModuleType) -> None:
        self._bench = bench
        self._structures = structures

    def is_working_distance_settable(self, beam_type: object) -> bool:  # noqa: ARG002 - there is one beam
        return True

    def get_working_distance(self, beam_type: object) -> float:  # noqa: ARG002 - there is one beam
        return self._bench.wd_mm * 1e-3

    def set_working_distance(self, wd_m: float, beam_type: object) -> None:  # noqa: ARG002 - there is one beam
        self._bench.apply(wd_mm=float(wd_m) * 1e3)

    def acquire_image(self, image_settings: object) -> Any:  # noqa: ARG002 - the bench has one frame size and dwell time
        return self._structures.FibsemImage(self._bench.scan().image)
